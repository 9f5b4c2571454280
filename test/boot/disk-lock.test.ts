/** Locks of disk images between machines: one writer, or any number of readers. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { TSVM, tsvm } from '../support/cli.js';
import { refusals, USAGE } from '../support/refusals.js';
import { tiny, tinyKernel } from '../support/tiny-kernel.js';

const { file, powerOff, expectRefusal } = refusals();
const image = file('disk', new Uint8Array(1 << 20));
const disk = (text: string) => ['--kernel', powerOff, '--memory', '4M', '--disk', text];

test('a disk that a machine writes to is locked by another machine, until that ends; readers share', async () => {
  const holding = file('hold', tinyKernel([...tiny.print('up\n'), ...tiny.sleep()]));
  const holder = spawn(
    process.execPath,
    [TSVM, 'boot', '--kernel', holding, '--memory', '4M', '--disk', image],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  onTestFinished(() => void holder.kill('SIGKILL'));
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  const ended = new Promise((resolve) => holder.once('exit', resolve));
  const bytes = readFileSync(image);
  for (const text of [image, `${image},ro`]) {
    expectRefusal(await tsvm(['boot', ...disk(text)]), USAGE, /in use by another machine/, /read-only/);
  }
  expect(readFileSync(image).equals(bytes)).toBe(true); // toEqual() goes byte by byte, in the rig for a minute
  holder.kill('SIGTERM');
  await ended;
  expect(await tsvm(['boot', ...disk(image)])).toMatchObject({ status: 0, stderr: '' });
  const readers = [tsvm(['boot', ...disk(`${image},ro`)]), tsvm(['boot', ...disk(`${image},ro`)])];
  expect(await Promise.all(readers)).toMatchObject([{ status: 0 }, { status: 0 }]);
});
