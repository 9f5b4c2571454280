/** Container engines that are installed, each as a command that runs `true` in a container over one and the same root. */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Engine {
  readonly name: string;
  /** A container is known to the engine by an id, which must be new each time. */
  command(id: string): readonly [program: string, ...args: string[]];
}

/** The host's static busybox as the whole of the root. */
export function findEngines(scratch: string, log: (text: string) => void): Engine[] {
  const root = join(scratch, 'bundle', 'rootfs');
  for (const directory of ['bin', 'proc', 'sys', 'dev', 'tmp'])
    mkdirSync(join(root, directory), { recursive: true });
  copyFileSync('/bin/busybox', join(root, 'bin', 'busybox'));
  symlinkSync('busybox', join(root, 'bin', 'true'));
  const bundle = join(scratch, 'bundle');
  const engines: Engine[] = [];
  for (const name of ['runc', 'crun']) {
    if (!isInstalled(name)) continue;
    try {
      execFileSync(name, ['spec', '--bundle', bundle], { stdio: 'ignore' });
    } catch {
      // the other one has written it already
    }
    const path = join(bundle, 'config.json');
    const config = JSON.parse(readFileSync(path, 'utf8'));
    config.process.terminal = false;
    config.process.args = ['/bin/true'];
    writeFileSync(path, JSON.stringify(config));
    engines.push({ name, command: (id) => [name, 'run', '--bundle', bundle, id] });
  }
  if (isInstalled('bwrap')) {
    const args = ['--unshare-all', '--ro-bind', root, '/', '--proc', '/proc', '--dev', '/dev', '/bin/true'];
    engines.push({ name: 'bwrap', command: () => ['bwrap', ...args] });
  }
  return engines.filter(({ name, command }) => {
    const [program, ...args] = command(`tsvm-bench-try-${process.pid}`);
    const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    if (status !== 0) log(`${name} does not work here: ${stderr.trim().split('\n')[0]}`);
    return status === 0;
  });
}

const isInstalled = (program: string): boolean => spawnSync(program, ['--version']).status === 0;
