/** A root as docker takes it: its daemon runs nothing but what it holds, so the files are handed over first. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { hostRefuses } from '../config.js';
import { findEngine } from './engine.js';

const run = promisify(execFile);

/** Image in the store of docker's daemon until it is disposed of. */
export class DockerImage implements AsyncDisposable {
  /** `sha256:` and 64 digits. */
  readonly id: string;

  private constructor(id: string) {
    this.id = id;
  }

  /**
   * Gives the files of a directory to the daemon.
   *
   * @throws TsvmError `TSVM_HOST` if docker is not installed, there is no daemon, or it refuses them.
   */
  static async import(root: string): Promise<DockerImage> {
    findEngine('docker');
    const archive = spawn('tar', ['-C', root, '--numeric-owner', '-c', '.'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const load = spawn('docker', ['import', '-'], { stdio: ['pipe', 'pipe', 'pipe'] });
    pipeline(archive.stdout, load.stdin).catch(() => {}); // whichever failed says why
    const [packed, loaded] = await Promise.all([
      outcome(archive, [archive.stderr]),
      outcome(load, [load.stderr, load.stdout]),
    ]);
    if (loaded.status !== 0) throw refused(loaded.texts[0], 'start its daemon, and see: docker info');
    const image = new DockerImage(loaded.texts[1] ?? '');
    if (packed.status === 0) return image;
    await image[Symbol.asyncDispose]();
    throw refused(packed.texts[0], `every file below ${root} must be readable`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('docker', ['image', 'rm', '--force', this.id]).catch(() => {}); // the daemon went away
  }
}

/** Ends a container that the daemon runs, if it does. */
export async function removeDockerContainer(name: string): Promise<void> {
  await run('docker', ['rm', '--force', name]).catch(() => {}); // it is gone, as it should be
}

/**
 * Finds process 1 of a container, as this process sees it.
 *
 * @throws Error if the daemon is in a PID namespace of its own, where it has another number.
 */
export async function dockerContainerPid(name: string): Promise<number> {
  const { stdout } = await run('docker', ['inspect', '--format', '{{.State.Pid}} {{.Id}}', name]);
  const [pid = '', id = ''] = stdout.trim().split(' ');
  if (!readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(id)) {
    throw new Error('docker’s daemon is in another PID namespace, so that its processes cannot be counted');
  }
  return Number(pid);
}

/** End of a program, and what each of its streams had to say. */
async function outcome(
  child: ChildProcess,
  streams: readonly Readable[],
): Promise<{ status: number | null; texts: string[] }> {
  const [status, ...texts] = await Promise.all([
    new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve)),
    ...streams.map(text),
  ]);
  return { status, texts: texts.map((said) => said.trim()) };
}

function refused(complaint = '', hint: string): Error {
  return hostRefuses(`engine docker: ${complaint.split('\n').at(-1)}`, hint);
}
