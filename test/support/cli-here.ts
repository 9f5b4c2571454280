/** Runs a command line of `tsvm` in the test's own process: a hundredth of what a process costs. For commands that only refuse. */
import { vi } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import type { CliResult } from './cli.js';

/** `tsvm ARGS...`; one at a time, since it takes this process's output. */
export async function tsvmHere(
  args: readonly string[],
): Promise<Pick<CliResult, 'status' | 'stdout' | 'stderr'>> {
  const said = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      said[name] += String(text);
      return true;
    }),
  );
  const before = process.exitCode;
  try {
    const status = (await runProgram([process.execPath, 'tsvm', ...args])) ?? Number(process.exitCode ?? 0);
    return { status, stdout: Buffer.from(said.stdout), stderr: said.stderr };
  } finally {
    process.exitCode = before;
    for (const spy of spies) spy.mockRestore();
  }
}
