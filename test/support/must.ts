import { spawnSync } from 'node:child_process';

/** Runs a program that must succeed. Returns what it printed; throws with what it said when it fails. */
export function must(program: string, ...args: string[]): string {
  const { error, status, stdout, stderr } = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  });
  if (status !== 0) {
    throw new Error(`${[program, ...args].join(' ')}: ${error ?? stderr + stdout.slice(-1000)}`);
  }
  return stdout;
}
