/** A root of busybox, and commands in containers over it. */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostHierarchies } from '../../src/container/cgroup-host.js';
import type { ContainerConfig } from '../../src/container/config.js';
import { type Container, type ContainerEnd, startContainer } from '../../src/container/container.js';
import { must } from './must.js';

/** Makes one at `path`: bin/ with all of busybox, and the folders that a root has. */
export function makeBusyboxRoot(path: string): string {
  for (const folder of ['bin', 'etc', 'root', 'tmp', 'var'])
    mkdirSync(join(path, folder), { recursive: true });
  chmodSync(join(path, 'tmp'), 0o1777);
  cpSync('/bin/busybox', join(path, 'bin/busybox'));
  const { stdout } = spawnSync('/bin/busybox', ['--list'], { encoding: 'utf8' });
  for (const name of stdout.trim().split('\n')) {
    if (name !== 'busybox') symlinkSync('busybox', join(path, 'bin', name));
  }
  writeFileSync(join(path, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\n');
  return path;
}

/** Programs of test/container/ in a root's /bin that make system calls, and tell what comes of them. */
export function compileCallProbe(root: string): void {
  const compile = (name: string, ...flags: string[]): string =>
    must('gcc', '-O1', '-static', '-s', ...flags, '-o', join(root, 'bin', name), `test/container/${name}.c`);
  compile('call-probe');
  compile('call-of-32-bit', '-nostdlib', '-fcf-protection=none');
}

export interface Output extends ContainerEnd {
  readonly stdout: string;
  readonly stderr: string;
}

/** All that a container says, to its end. */
export async function outputOf(container: Container): Promise<Output> {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    container[name]?.setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text;
    });
  }
  const closed = [container.stdout, container.stderr].map(
    (stream) => new Promise((resolve) => stream?.once('close', resolve)),
  );
  const end = await container.wait();
  await Promise.all(closed);
  return { ...end, ...texts };
}

/** Runs a script of the shell in a container over `root`. */
export async function inContainer(
  root: string,
  script: string,
  config: Partial<ContainerConfig> = {},
): Promise<Output> {
  const container = await startContainer({ layers: [root], argv: ['sh', '-c', script], ...config });
  container.stdin?.end();
  return await outputOf(container);
}

/** Things of containers that are to be seen on the host: their cgroups, their processes, and this process's mounts. */
export function traces(): { cgroups: string[]; launchers: number[]; mounts: number } {
  // Also where another runtime may have made them, whatever it is that is controlled there.
  const everywhere = namesIn('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name));
  const places = [...hostHierarchies().map(({ directory }) => directory), '/sys/fs/cgroup', ...everywhere];
  const cgroups = [...new Set(places)].flatMap((directory) =>
    namesIn(directory)
      .filter((name) => name.startsWith('tsvm-'))
      .map((name) => join(directory, name)),
  );
  const launchers = pids().filter((pid) => commandLine(pid).split(' ')[0] === 'init');
  return { cgroups, launchers, mounts: readFileSync('/proc/self/mountinfo', 'utf8').split('\n').length };
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Command lines of all processes that there are: their words, with blanks between them. */
export function commandLines(): string[] {
  return pids().map(commandLine);
}

function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return ''; // it has ended
  }
}

/** Resolves when `condition` holds; rejects with `what` after a while. */
export async function until(what: string, condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
