/** Refusals of `tsvm boot`: one line of error and one of hint on stderr, nothing on stdout, nothing half-done. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type CliResult, tsvm } from './cli.js';
import { tsvmHere } from './cli-here.js';
import { inRig, temporaryDirectory } from './guest.js';
import { tiny, tinyKernel } from './tiny-kernel.js';

export const USAGE = 2;
export const HOST_FAILURE = 125;

/** A case of a table: what is wrong, the arguments after `tsvm boot`, and what the two lines say. */
export type Refusal = readonly [name: string, args: readonly string[], error: RegExp, hint?: RegExp];

/** Words and status of a command. */
type Said = Pick<CliResult, 'status' | 'stdout' | 'stderr'>;

/** Files for one file of tests, and checks that a command was refused. Call it at the top of the file. */
export function refusals() {
  const directory = temporaryDirectory();
  const path = (name: string): string => join(directory, name);
  const file = (name: string, bytes: Uint8Array | string): string => {
    writeFileSync(path(name), bytes);
    return path(name);
  };
  const powerOff = file('power-off', tinyKernel(tiny.powerOff()));
  /** Arguments for a machine that loads `bytes` as its initramfs. */
  const initrd = (name: string, bytes: Uint8Array | string): string[] => [
    ...['--kernel', powerOff, '--memory', '4M', '--initrd'],
    file(name, bytes),
  ];
  /** Never written: it would be, by a machine that started. */
  const timeline = path('timeline.json');

  /** Checks a refusal before anything was done: its status, its line of error and its line of hint. */
  function expectRefusal(result: Said, status: number, error: RegExp, hint?: RegExp): void {
    const [first = '', second = '', ...rest] = result.stderr.split('\n');
    expect(first).toMatch(error);
    expect(first).toMatch(/^tsvm: /);
    expect(second, result.stderr).toMatch(/^hint: ./);
    if (hint !== undefined) expect(second).toMatch(hint);
    expect(rest).toEqual(['']);
    expect(result.status).toBe(status);
    expect(result.stdout.toString()).toBe('');
    expect(existsSync(timeline)).toBe(false);
  }

  /**
   * A test for each row. The first is a process of its own, as a user's is, but in the rig, where that takes three seconds; the others
   * run in this one.
   */
  function refuses(rows: readonly Refusal[]): void {
    test.for(rows)('%s', async (row) => {
      const [, args, error, hint] = row;
      const run = row === rows[0] && !inRig ? tsvm : tsvmHere;
      expectRefusal(await run(['boot', '--timeline', timeline, ...args]), USAGE, error, hint);
    });
  }

  return {
    directory,
    path,
    file,
    timeline,
    /** A kernel that powers off at once. */
    powerOff,
    initrd,
    expectRefusal,
    refuses,
  };
}
