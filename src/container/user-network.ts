/**
 * pasta: what the container sends through an interface of its own, an unprivileged process sends through sockets of the host's.
 *
 * The addresses are those of a machine's `--net user`. Nothing is forwarded to it.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { USER_NET } from '../devices/net-backend.js';
import { TsvmError } from '../errors.js';
import { ADDRESS_ARGUMENTS, firstComplaint } from '../host/passt.js';
import { ExecuteError, Launch } from './launcher.js';
import { ERRNO, PR, SIGKILL, SYS } from './linux.js';
import { cStrings, type Plan } from './plan.js';
import { EXECUTE } from './process.js';
import { call } from './steps.js';

/** To make its interface and configure it. */
const READY_MS = 10_000;
const POLL_MS = 5;
const MAX_COMPLAINT_CHARACTERS = 4096;
const FOLDERS = ['/usr/local/bin', '/usr/bin', '/bin'] as const;

/** What the container's /etc/resolv.conf says. */
export const RESOLV_CONF = `nameserver ${USER_NET.nameServerAddress}\n`;

export class UserNetwork {
  readonly #launch: Launch;

  private constructor(launch: Launch) {
    this.#launch = launch;
  }

  /**
   * Gives the network namespace of process `pid` an interface; resolves when it has a route.
   *
   * @throws TsvmError `TSVM_HOST` if pasta is not installed, or says why it cannot.
   */
  static async attach(launcher: string, pid: number): Promise<UserNetwork> {
    const launch = new Launch(launcher, planOf(pid), 'pasta', 'pipe');
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
      for (let waitedMs = 0; !hasRoute(pid); waitedMs += POLL_MS) {
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
function planOf(pid: number): Plan {
  const argv = cStrings(['pasta', ...pastaArguments(pid, process.geteuid?.() === 0)]);
  const env = cStrings([]);
  return {
    cloneFlags: 0,
    host: [],
    init: [],
    command: [
      call('tie it to the launcher', SYS.prctl, [PR.SET_PDEATHSIG, SIGKILL, 0, 0, 0]),
      ...FOLDERS.map((folder, i) =>
        call(EXECUTE, SYS.execve, [`${folder}/pasta`, argv, env], {
          ignore: i === FOLDERS.length - 1 ? [] : [ERRNO.ENOENT],
        }),
      ),
    ],
    keeper: [],
    cleanup: [],
  };
}

/** pasta of 2023-03 and later. */
export function pastaArguments(pid: number, superuser: boolean): string[] {
  return [
    ...['--foreground', '--quiet', '--stderr', '--config-net', '--no-map-gw'],
    ...ADDRESS_ARGUMENTS,
    ...['--dns-forward', USER_NET.nameServerAddress],
    ...['-t', 'none', '-u', 'none', '-T', 'none', '-U', 'none'],
    // It would become nobody, who may not enter a namespace of the superuser's.
    ...(superuser ? ['--runas', '0'] : []),
    String(pid),
  ];
}

/** An IPv4 default route, proc_pid_net(5). */
function hasRoute(pid: number): boolean {
  try {
    return /^\S+\t00000000\t/m.test(readFileSync(`/proc/${pid}/net/route`, 'utf8'));
  } catch {
    return false;
  }
}

function pastaError(complaint: string): TsvmError {
  const said = firstComplaint(complaint);
  return new TsvmError('TSVM_HOST', `--net user: pasta: ${said ?? 'it did not make its interface'}`, {
    hint: /\btun\b/.test(complaint)
      ? 'pasta opens /dev/net/tun, which may be the superuser’s only: ls -l /dev/net/tun'
      : 'pasta needs an interface with a default route: ip route',
  });
}

function notInstalled(cause: ExecuteError): TsvmError {
  return new TsvmError('TSVM_HOST', "--net user: the program 'pasta' is needed, and is not installed", {
    hint: 'install it: apt-get install passt; or go without: --net none',
    cause,
  });
}
