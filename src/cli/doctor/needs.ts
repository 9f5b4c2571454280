/** The table of what images, containers, networks, shares and templates need of a host. */
import { PASTA_FOLDERS } from '../../container/user-network.js';
import { MIN_OPEN_FILES, readLimit } from '../../host/process/limits.js';
import { XZ } from '../../host/process/program-filter.js';
import { BSDCAT } from '../../image/decompress.js';
import type { Program } from '../../image/program.js';
import { MKE2FS } from '../../image/root-disk.js';
import { formatBytes } from '../../util/units.js';
import {
  type Area,
  asRoot,
  type Check,
  has,
  lacks,
  type Need,
  type NeedsHost,
  type Verdict,
} from './check.js';
import { CONTAINER_NEEDS } from './container-needs.js';
import { GUEST_TOOLS } from './guest-checks.js';

/** An unpacked image or a saved machine may be this large. */
const LEAST_FREE_BYTES = 2 ** 30;
/** Threads of a machine: 64 vCPUs, and those that read disks and shares. */
const LEAST_PROCESSES = 256;

/** A need of programs, which are there or in a Debian package. */
function programs(area: Area, lost: string, ...wanted: readonly [Program, ...Program[]]): Need {
  return {
    area,
    name: wanted[0].name,
    examine({ program }) {
      const missing = wanted.filter(({ name }) => program(name) === undefined);
      if (missing.length === 0) return has(wanted.map(({ name }) => program(name)).join(', '));
      const packages = new Set(missing.map(({ debianPackage }) => debianPackage));
      const names = missing.map(({ name }) => name).join(', ');
      return lacks(`${names} not installed: ${lost}`, `apt-get install ${[...packages].join(' ')}`);
    },
  };
}

const TUN = '/dev/net/tun';

function tun(host: NeedsHost): Verdict {
  const node = host.files.stats(TUN);
  const lost = 'no --net tap of machines, no --net user of containers';
  if (node === undefined)
    return lacks(
      `${TUN} is missing: ${lost}`,
      asRoot(host, 'modprobe tun; in a container: --device /dev/net/tun'),
    );
  return host.uid === 0 || (node.mode & 0o006) === 0o006
    ? has(TUN)
    : lacks(`${TUN} is not for this user: ${lost}`, `sudo chmod 666 ${TUN}`);
}

/** proc_pid_net(5): a destination of zeroes, in hexadecimal. */
function route({ files }: NeedsHost): Verdict {
  const version4 = /^\S+\t00000000\t/m.test(files.text('proc/self/net/route') ?? '');
  const version6 = /^0{32} 00 (?!.* lo$)/m.test(files.text('proc/self/net/ipv6_route') ?? '');
  return version4 || version6
    ? has('a default route leads out')
    : lacks('no default route: no --net user, which copies the host’s', 'ip route add default via GATEWAY');
}

interface LimitRow {
  /** proc_pid_limits(5) */
  readonly title: string;
  /** Node raises the soft limit of open files to the hard one; others hold as they are. */
  readonly kind: 'soft' | 'hard';
  readonly least: number;
  readonly lost: string;
  /** Option of the shell's ulimit. */
  readonly option: string;
}

/** A need of a limit of this process that is not less than it may be. */
function limit(name: string, { title, kind, least, lost, option }: LimitRow): Need {
  return {
    area: 'limits',
    name,
    examine({ files }) {
      const amount = readLimit(files, title)?.[kind];
      if (amount === undefined) return has('this host does not say');
      const said = Number.isFinite(amount) ? String(amount) : 'no limit';
      if (amount >= least) return has(said);
      return lacks(`${said}: ${lost}`, `ulimit ${option} ${Number.isFinite(least) ? least : 'unlimited'}`);
    },
  };
}

function rooms({ files, folders }: NeedsHost): Check[] {
  return Object.entries(folders).map(([name, path]) => {
    const { freeBytes, writable } = files.room(path);
    const free = `${formatBytes(freeBytes)} free in ${path}`;
    const found = !writable
      ? lacks(`${path} is not this user’s to write: no ${name}`)
      : freeBytes >= LEAST_FREE_BYTES
        ? has(free)
        : lacks(`${free}: little for ${name}`);
    return { area: 'space', name, ...found };
  });
}

export const NEEDS: readonly Need[] = [
  programs('machines', 'no kernels and initramfs that are packed with xz or lzma', XZ),
  programs('images', 'no --image whose archives are packed with zstd, xz, bzip2 or lz4', BSDCAT),
  programs('machines', 'no --root-disk', MKE2FS),
  ...CONTAINER_NEEDS,
  programs('networks', 'no --net user of machines', { name: 'passt', debianPackage: 'passt' }),
  {
    area: 'networks',
    name: 'pasta',
    examine({ files }) {
      const found = PASTA_FOLDERS.map((folder) => `${folder}/pasta`).find(
        (path) => files.stats(path) !== undefined,
      );
      return found === undefined
        ? lacks('not installed: no --net user of containers', 'apt-get install passt')
        : has(found);
    },
  },
  { area: 'networks', name: 'tun', examine: tun },
  { area: 'networks', name: 'route', examine: route },
  limit('open files', {
    title: 'Max open files',
    kind: 'hard',
    least: MIN_OPEN_FILES,
    lost: 'busy shares and vsock connections run out of them',
    option: '-Hn',
  }),
  limit('processes', {
    title: 'Max processes',
    kind: 'soft',
    least: LEAST_PROCESSES,
    lost: 'few for the threads of machines',
    option: '-u',
  }),
  limit('address space', {
    title: 'Max address space',
    kind: 'soft',
    least: Number.POSITIVE_INFINITY,
    lost: 'no guest memory beyond it',
    option: '-v',
  }),
  limit('file size', {
    title: 'Max file size',
    kind: 'soft',
    least: Number.POSITIVE_INFINITY,
    lost: 'no guest memory, disk or template beyond it',
    option: '-f',
  }),
  GUEST_TOOLS,
];

export function examineNeeds(host: NeedsHost): Check[] {
  return [...NEEDS.map(({ area, name, examine }) => ({ area, name, ...examine(host) })), ...rooms(host)];
}
