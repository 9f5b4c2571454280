/**
 * A daemon of docker's for one test file, in namespaces that end with it.
 *
 * Its package is not installed: installed, it would start a service, and change this host's firewall.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll } from 'vitest';
import { hostHierarchies, removeTree } from '../../src/container/cgroup-host.js';
import { unpackedPackages } from './debian-package.js';

const READY_SECONDS = 120;
/** And some for what is around it. */
const START_MS = (READY_SECONDS + 30) * 1000;
const CGROUP = '/docker-for-tests';

/** Packages of its programs; what else they need comes with podman. */
const PACKAGES = ['docker.io', 'containerd'];

/** Programs of Debian's packages. */
export const dockerPrograms = (): string => unpackedPackages('docker', PACKAGES);

/** Starts a daemon for the file of tests that calls this at its top, and ends it after the last. Its files are in `folder`. */
export function dockerForFile(folder: string): void {
  let daemon: DockerDaemon | undefined;
  beforeAll(async () => {
    daemon = await DockerDaemon.start(join(folder, 'docker'));
  }, START_MS);
  afterAll(() => daemon?.[Symbol.asyncDispose]());
}

/** Docker's daemon. Clients find it by `DOCKER_HOST`, and are found by `PATH`, which are this process's from then on. */
class DockerDaemon implements AsyncDisposable {
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  /** @param folder - holds all that it keeps */
  static async start(folder: string): Promise<DockerDaemon> {
    const root = dockerPrograms();
    const { env } = process;
    env['PATH'] = ['usr/bin', 'usr/sbin'].map((bin) => `${join(root, bin)}:`).join('') + (env['PATH'] ?? '');
    mkdirSync(folder, { recursive: true });
    const socket = join(folder, 'docker.sock');
    const places = ['data-root', 'exec-root'].map((name) => `--${name}=${join(folder, name)}`);
    const child = spawn(
      'setpriv',
      [
        // It ends with this process, and ends what it runs. In a PID namespace of its own it would, too, but count processes otherwise.
        ...['--pdeathsig', 'TERM', 'unshare', '--mount', '--net'],
        ...['dockerd', `--host=unix://${socket}`, `--pidfile=${join(folder, 'pid')}`, ...places],
        ...['--storage-driver=vfs', '--iptables=false', '--bridge=none', `--cgroup-parent=${CGROUP}`],
      ],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-2000);
    });
    env['DOCKER_HOST'] = `unix://${socket}`;
    for (let tenths = 0; !existsSync(socket) || spawnSync('docker', ['info']).status !== 0; tenths++) {
      if (tenths === READY_SECONDS * 10 || child.exitCode !== null) {
        child.kill('SIGKILL');
        throw new Error(`dockerd does not answer: ${log}`);
      }
      await sleep(100);
    }
    return new DockerDaemon(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#process.once('close', resolve));
    this.#process.kill('SIGTERM');
    await closed;
    for (const { mount } of hostHierarchies()) removeTree(join(mount, CGROUP));
  }
}
