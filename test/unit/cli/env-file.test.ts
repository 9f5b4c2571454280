import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { withEnvFiles } from '../../../src/cli/env-file.js';
import { temporaryDirectory } from '../../support/guest.js';

const folder = temporaryDirectory();
let count = 0;
const file = (text: string): string => {
  const path = join(folder, String(count++));
  writeFileSync(path, text);
  return path;
};

describe('withEnvFiles()', () => {
  test('reads lines as Docker does: comments, blanks before a name, values as they stand', async () => {
    const text = '\ufeff# a comment\r\n\r\n  A=1\nB="x y" # z\nC=\nTAKEN\nD=a=b\n';
    const options: { envFile: string[]; env?: string[] } = { envFile: [file(text)] };
    expect((await withEnvFiles(options)).env).toEqual(['A=1', 'B="x y" # z', 'C=', 'TAKEN', 'D=a=b']);
  });

  test('puts what was typed after the files, in their order', async () => {
    const options = { envFile: [file('A=1\n'), file('A=2')], env: ['A=3'], other: true };
    expect(await withEnvFiles(options)).toMatchObject({ env: ['A=1', 'A=2', 'A=3'], other: true });
  });

  test.each([
    ['=x', 1],
    ['A=1\nexport B=2', 2],
    ['A=\0', 1],
  ])('refuses %j with the line', async (text, line) => {
    const path = file(text);
    await expect(withEnvFiles({ envFile: [path] })).rejects.toThrow(`the env file ${path}, line ${line}: '`);
  });
});
