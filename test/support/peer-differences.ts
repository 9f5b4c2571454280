/** Differences between what images become here and by other programs, each with its reason. */
import type { Files } from './image-layouts.js';

export type Peer = 'umoci' | 'podman';

/** Reasons by image and peer. One that stands for a whole image is that the peer refuses it. */
const WANTED: Readonly<
  Record<string, Partial<Record<Peer, { readonly paths: readonly string[]; readonly why: string }>>>
> = {
  'files in the top dev': {
    umoci: { paths: ['dev/x'], why: 'the content of /dev is the container’s or the machine’s' },
    podman: { paths: ['dev/x'], why: 'the content of /dev is the container’s or the machine’s' },
  },
  'device nodes': {
    umoci: { paths: ['opt/again', 'opt/null'], why: 'devices are left out, and what is linked to them' },
    podman: { paths: ['opt/again', 'opt/null'], why: 'devices are left out, and what is linked to them' },
  },
  'a mark without a name': {
    umoci: { paths: [], why: 'it hides nothing, and is no reason to refuse the image' },
    podman: { paths: [], why: 'it hides nothing, and is no reason to refuse the image' },
  },
  'through a link that climbs': {
    podman: { paths: [], why: 'a link leads no higher than the root, as with chroot' },
  },
  'through a link to nowhere': { podman: { paths: [], why: 'what the link says is made' } },
  'a name twice': {
    podman: { paths: [], why: 'the last counts; podman keeps a list of names that has each once' },
  },
  'a mark behind what it hides is made again': {
    podman: { paths: [], why: 'a mark hides what the layers below have, wherever it stands' },
  },
  'a mark behind a file of its name': {
    podman: { paths: ['a'], why: 'a mark hides what the layers below have, wherever it stands' },
  },
  'an opaque mark through a link': {
    podman: { paths: ['usr/lib/old'], why: 'a mark is where the link leads, as a file would be' },
  },
  times: { podman: { paths: ['old'], why: 'there are times before 1970' } },
  'a mark below a mark': { podman: { paths: ['t'], why: 'a mark makes no folder' } },
  'a mark of what is not there': { podman: { paths: ['never'], why: 'a mark makes no folder' } },
};

/** Compares files with a peer's: what differs without a reason, and reasons without a difference. */
export function unexplained(image: string, peer: Peer, ours: Files, theirs: Files | null): string[] {
  const wanted = WANTED[image]?.[peer];
  if (theirs === null) return wanted?.paths.length === 0 ? [] : [`${peer} refuses it`];
  const differing = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].filter(
    (path) => !isAlike(path, peer, ours[path], theirs[path]),
  );
  return [
    ...differing
      .filter((path) => !wanted?.paths.includes(path))
      .map((path) => `${path}: ${ours[path]}, ${theirs[path]}`),
    ...(wanted?.paths ?? []).filter((path) => !differing.includes(path)).map((path) => `${path} is alike`),
    ...(wanted?.paths.length === 0 ? [`${peer} does not refuse it`] : []),
  ];
}

function isAlike(path: string, peer: Peer, ours: string | undefined, theirs: string | undefined): boolean {
  // podman makes the root itself, with a mode of its own.
  if (peer === 'podman' && path === '.') return true;
  if (ours === theirs) return true;
  // A folder that is filled or made while a peer unpacks has the time of that. Here it has its layer's, or 1970: equal images are equal.
  return ours?.startsWith('directory') === true && theirs === ours.replace(/^(\S+ \S+ \S+) \S+/, '$1 now');
}
