/**
 * pasta: what the container sends through an interface of its own, an unprivileged process sends through sockets of the host's.
 *
 * The addresses are those of a machine's user network. Nothing is forwarded to it.
 */
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { USER_NET } from '../devices/backends/net.js';
import { TsvmError } from '../errors.js';
import { ADDRESS_ARGUMENTS, firstComplaint } from '../host/net/passt.js';
import { hasDefaultRoute } from '../host/proc.js';
import { CAPABILITIES, type Capability } from './capabilities.js';
import { type IdRange, refuse } from './config.js';
import { ExecuteError, Launch } from './launcher.js';
import { AT_FDCWD, CLONE, ERRNO, MS, O, PR, SIGKILL, SYS } from './linux.js';
import { cStrings, type Plan, type Step } from './plan.js';
import { EXECUTE, keepCapabilities } from './process.js';
import { call, makeMountsPrivate, mountFs, Slots } from './steps.js';

/** To make its interface and configure it. */
const READY_MS = 10_000;
const POLL_MS = 5;
const MAX_COMPLAINT_CHARACTERS = 4096;
/** Folders in which pasta is looked for. */
export const PASTA_FOLDERS = ['/usr/local/bin', '/usr/bin', '/bin'] as const;

/** What the container's /etc/resolv.conf says. */
export const RESOLV_CONF = `nameserver ${USER_NET.nameServerAddress}\n`;

/** Id of nobody, who owns no file. */
const NOBODY = 65_534;
/** Capabilities that pasta needs over the container's network namespace until it has its interface. */
const CAPABILITIES_OF_PASTA: readonly Capability[] = ['SYS_ADMIN', 'NET_ADMIN'];

/** Ids of the container's user namespace. */
export interface NetworkUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Ids in the container that pasta runs as for the superuser: it reads what the container sends, and must not be root on the host.
 *
 * @throws TsvmError `TSVM_CONTAINER` if the maps have no other id.
 */
export function networkUser(uidMap: readonly IdRange[], gidMap: readonly IdRange[]): NetworkUser {
  return { uid: unprivilegedId(uidMap, 'uidMap'), gid: unprivilegedId(gidMap, 'gidMap') };
}

function unprivilegedId(ranges: readonly IdRange[], field: 'uidMap' | 'gidMap'): number {
  const ids = ranges.flatMap(({ container, host, count }) => [
    ...(NOBODY >= container && NOBODY < container + count
      ? [{ id: NOBODY, host: host + NOBODY - container }]
      : []),
    { id: container + count - 1, host: host + count - 1 },
  ]);
  const found = ids.find(({ id, host }) => id === NOBODY && host !== 0) ?? ids.find(({ host }) => host !== 0);
  if (found === undefined) {
    throw refuse(
      'network user: pasta needs an id that is not root’s on the host',
      `\`${field}\` 1:100000:65535 besides`,
    );
  }
  return found.id;
}

export class UserNetwork {
  readonly #launch: Launch;

  private constructor(launch: Launch) {
    this.#launch = launch;
  }

  /**
   * Gives the network namespace of process `pid` an interface; resolves when it has a route.
   *
   * @param user - for the superuser: whom pasta runs as in the user namespace of `pid`
   * @throws TsvmError `TSVM_HOST` if pasta is not installed, or says why it cannot.
   */
  static async attach(
    launcher: string,
    pid: number,
    user?: NetworkUser,
    signal?: AbortSignal,
  ): Promise<UserNetwork> {
    const launch = new Launch(launcher, planOf(pid, user), 'pasta', 'pipe');
    const network = new UserNetwork(launch);
    let complaint = '';
    launch.stdout?.resume();
    launch.stdin?.end();
    launch.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (complaint.length < MAX_COMPLAINT_CHARACTERS) complaint += text;
    });
    let ended = false;
    launch.ended.then(() => {
      ended = true;
    });
    try {
      await launch.created;
      launch.go();
      await launch.running;
      for (let waitedMs = 0; !hasDefaultRoute(pid); waitedMs += POLL_MS) {
        signal?.throwIfAborted();
        if (ended || waitedMs > READY_MS) throw pastaError(complaint);
        await sleep(POLL_MS);
      }
      return network;
    } catch (error) {
      await network.close();
      throw error instanceof ExecuteError ? notInstalled(error) : error;
    }
  }

  async close(): Promise<void> {
    this.#launch.signal(SIGKILL);
    await this.#launch.ended;
  }
}

/** The launcher is its parent, so that it ends with this process, however that ends. */
function planOf(pid: number, user: NetworkUser | undefined): Plan {
  const argv = cStrings(['pasta', ...pastaArguments(pid, user)]);
  const env = cStrings([]);
  return {
    cloneFlags: 0,
    host: [],
    init: [],
    command: [
      ...(user === undefined ? [] : enterAs(pid, user)),
      // A change of user would undo it.
      call('tie it to the launcher', SYS.prctl, [PR.SET_PDEATHSIG, SIGKILL, 0, 0, 0]),
      ...PASTA_FOLDERS.map((folder, i) =>
        call(EXECUTE, SYS.execve, [`${folder}/pasta`, argv, env], {
          ignore: i === PASTA_FOLDERS.length - 1 ? [] : [ERRNO.ENOENT],
        }),
      ),
    ],
    keeper: [],
    cleanup: [],
  };
}

/**
 * Enters the user namespace of `pid` as a user of it, who has capabilities there and nowhere else. pasta would change its user first, and
 * could not enter what is the superuser's; so it gets the network namespace as its standard input.
 */
function enterAs(pid: number, { uid, gid }: NetworkUser): Step[] {
  const slots = new Slots();
  const [network, users] = [slots.take(), slots.take()];
  const open = (name: string, slot: typeof network): Step =>
    call(`open the ${name} namespace`, SYS.openat, [AT_FDCWD, `/proc/${pid}/ns/${name}`, O.CLOEXEC], {
      into: slot,
    });
  return [
    ...(opensTun() ? [] : showTun()),
    open('net', network),
    call('hand the network namespace over', SYS.dup2, [network, 0]),
    open('user', users),
    call('enter the user namespace', SYS.setns, [users, CLONE.NEWUSER]),
    call('leave all groups', SYS.setgroups, [0, 0]),
    call(`become group ${gid}`, SYS.setresgid, [gid, gid, gid]),
    call('keep capabilities', SYS.prctl, [PR.SET_KEEPCAPS, 1, 0, 0, 0]),
    call(`become user ${uid}`, SYS.setresuid, [uid, uid, uid]),
    keepCapabilities(CAPABILITIES_OF_PASTA, true),
    ...CAPABILITIES_OF_PASTA.map((name) =>
      call(`keep ${name}`, SYS.prctl, [
        PR.CAP_AMBIENT,
        PR.CAP_AMBIENT_RAISE,
        CAPABILITIES.indexOf(name),
        0,
        0,
      ]),
    ),
  ];
}

/** <linux/kdev_t.h>, Documentation/admin-guide/devices.txt: misc devices, TUN. */
const TUN = { path: '/dev/net/tun', device: (10 << 8) | 200, type: 0o020000, mode: 0o666 } as const;

/** Tells whether anybody may open the host's node, as udev makes it; a missing one is pasta's to complain of. */
function opensTun(): boolean {
  const mode = statSync(TUN.path, { throwIfNoEntry: false })?.mode;
  return mode === undefined || (mode & TUN.mode) === TUN.mode;
}

/** A node of pasta's own, which the rest of the host does not see: what it makes is an interface of the container's. */
function showTun(): Step[] {
  return [
    call('make a mount namespace', SYS.unshare, [CLONE.NEWNS]),
    makeMountsPrivate(),
    mountFs('tmpfs', '/dev/net', MS.NOSUID | MS.NOEXEC, 'mode=755,size=4k'),
    call(`make ${TUN.path}`, SYS.mknod, [TUN.path, TUN.type | TUN.mode, TUN.device]),
    call(`open ${TUN.path} to all`, SYS.chmod, [TUN.path, TUN.mode]), // whatever the umask
  ];
}

/** pasta of 2023-03 and later. */
export function pastaArguments(pid: number, user?: NetworkUser): string[] {
  return [
    ...['--foreground', '--quiet', '--stderr', '--config-net', '--no-map-gw'],
    ...ADDRESS_ARGUMENTS,
    ...['--dns-forward', USER_NET.nameServerAddress],
    ...['-t', 'none', '-u', 'none', '-T', 'none', '-U', 'none'],
    ...(user === undefined
      ? [String(pid)]
      : ['--netns-only', '--no-netns-quit', '--netns', '/proc/self/fd/0']),
  ];
}

function pastaError(complaint: string): TsvmError {
  const said = firstComplaint(complaint);
  return new TsvmError('TSVM_HOST', `network user: pasta: ${said ?? 'it did not make its interface'}`, {
    hint: /\btun\b/.test(complaint)
      ? 'pasta opens /dev/net/tun, which is missing here, or not for this user: tsvm doctor says what to do'
      : 'pasta needs an interface with a default route: ip route',
  });
}

function notInstalled(cause: ExecuteError): TsvmError {
  return new TsvmError('TSVM_HOST', "network user: the program 'pasta' is needed, and is not installed", {
    hint: "install it: apt-get install passt; or go without: `network: 'none'`",
    cause,
  });
}
