/** Command that is run in an image: its root, its user and its surroundings; the same for a machine and a container. */

import { resolve } from 'node:path';
import { defaultEnvironment } from '../../container/config.js';
import { TsvmError } from '../../errors.js';
import type { GuestCommand } from '../../guest/command.js';
import { DEBIAN_GUEST, findGuest, type Guest } from '../../guest/store.js';
import type { Image, ImageConfig } from '../../image/image.js';
import type { ImageStore, MakeProgress } from '../../image/store.js';
import type { ImageUser } from '../../image/user.js';
import { guestRemedy } from '../../util/package-file.js';
import { environment, parseVariables } from '../environment.js';

export interface ImageCommandOptions {
  /** Default: the root of the guest that tsvm builds. */
  readonly image?: OpenedImage | undefined;
  readonly user?: string;
  /** In place of the image’s Entrypoint and Cmd; empty for none. */
  readonly entrypoint?: string;
  readonly workdir?: string;
  readonly hostname?: string;
  readonly env?: readonly string[];
}

export interface ImageCommand<Root> {
  readonly root: Root;
  /** Use of the image: until it is disposed of, what was made of it is not removed. */
  readonly inUse: Disposable;
  readonly hostname: string;
  readonly command: GuestCommand & {
    readonly cwd: string;
    readonly user: Omit<ImageUser, 'home'>;
    readonly env: Record<string, string>;
  };
}

/** Host name of both kinds, unless one is given. */
const HOSTNAME = 'tsvm';

/** Image of which nothing is made yet. */
export interface OpenedImage {
  /** Text that it was opened by, for messages. */
  readonly text: string;
  readonly image: Image;
}

/** Opens an image that there is a command for. @throws TsvmError `TSVM_IMAGE`, or `TSVM_USAGE` if it names no command. */
export async function openImage(
  words: readonly string[],
  text: string,
  entrypoint?: string,
): Promise<OpenedImage> {
  const { ImageStore } = await import('../../image/store.js');
  const image = await new ImageStore().open(text);
  argvOf(words, image.config, text, entrypoint);
  return { text, image };
}

/** Words of a command, as Docker puts them together. */
function argvOf(
  words: readonly string[],
  { entrypoint, cmd }: ImageConfig,
  name: string,
  typed: string | undefined,
): string[] {
  const argv =
    typed === undefined
      ? [...(entrypoint ?? []), ...(words.length > 0 ? words : (cmd ?? []))]
      : [...(typed === '' ? [] : [typed]), ...words];
  if (argv.length > 0) return argv;
  throw new TsvmError('TSVM_USAGE', `image ${name} names no command`, { hint: 'give one: -- COMMAND' });
}

async function guestForRoot(): Promise<Guest> {
  try {
    return await findGuest();
  } catch (error) {
    if (!(error instanceof TsvmError)) throw error;
    // Its kernel may be none for this host; its root is the same.
    const debian = await findGuest(DEBIAN_GUEST).catch(() => undefined);
    if (debian !== undefined) return debian;
    throw new TsvmError(error.code, error.message, {
      hint: `${guestRemedy()}; or give another root: --image DIR, ARCHIVE or LAYOUT`,
      cause: error,
    });
  }
}

/**
 * Makes the root of an image, and puts the command together.
 *
 * @param makeRoot - makes what the command runs over
 */
export async function imageCommand<Root>(
  words: readonly string[],
  options: ImageCommandOptions,
  makeRoot: (image: Image, store: ImageStore, progress: MakeProgress) => Promise<Root>,
): Promise<ImageCommand<Root>> {
  // Most commands need none of it.
  const [{ ImageStore }, { userOf }, { imageEnvironment }] = await Promise.all([
    import('../../image/store.js'),
    import('../../image/user.js'),
    import('../../image/environment.js'),
  ]);
  const store = new ImageStore();
  const path = options.image?.text ?? (await guestForRoot()).initrd;
  const say = (what: string): void => void process.stderr.write(`tsvm: ${what}, once\n`);
  const progress = {
    onUnpack: () => say(`unpacking ${path} into ${store.directory}`),
    onMake: () => say('making a file system of the image'),
  };
  const image = options.image?.image ?? (await store.openGuest(path, progress));
  const { config } = image;
  const argv = argvOf(words, config, path, options.entrypoint);
  const root = await makeRoot(image, store, progress);
  const inUse = store.use(image);
  const { home, ...user } = userOf({ root: store.accountsOf(image) }, options.user ?? config.user ?? '0');
  const hostname = options.hostname ?? HOSTNAME;
  const env = {
    ...defaultEnvironment(hostname, false),
    HOME: home,
    TERM: process.env['TERM'] ?? 'linux',
    ...imageEnvironment(config.env ?? []),
    ...environment(parseVariables(options.env ?? [])),
  };
  return {
    root,
    inUse,
    hostname,
    // As Docker does, also one that is not the image's.
    command: { argv, env, user, cwd: options.workdir ?? resolve('/', config.workdir ?? ''), makeCwd: true },
  };
}
