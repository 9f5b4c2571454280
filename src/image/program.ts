/** Programs of the host that images are unpacked and written with. */
import { spawn } from 'node:child_process';
import { TsvmError } from '../errors.js';

/** What a program says that fails, for the message: the rest is seldom more. */
const MAX_COMPLAINT_CHARACTERS = 4096;

/**
 * Runs a program to its end, and returns what it wrote.
 *
 * @param complain - makes an error of the first line of what it said when it failed
 * @throws TsvmError `TSVM_HOST` if it is not installed, with the Debian package that has it.
 */
export async function outputOf(
  program: { readonly name: string; readonly debianPackage: string },
  args: readonly string[],
  complain: (complaint: string) => Error,
): Promise<string> {
  // Names as they are, also those that are not ASCII.
  const env = { ...process.env, LC_ALL: 'C.UTF-8' };
  const child = spawn(program.name, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  const said: Buffer[] = [];
  let complaint = '';
  child.stdout.on('data', (piece: Buffer) => said.push(piece));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (complaint.length < MAX_COMPLAINT_CHARACTERS) complaint += text;
  });
  return await new Promise((resolve, reject) => {
    child.once('error', (cause) => {
      const hint = `install it: apt-get install ${program.debianPackage}`;
      reject(
        new TsvmError('TSVM_HOST', `the program '${program.name}' is needed for images: ${cause.message}`, {
          hint,
          cause,
        }),
      );
    });
    child.once('close', (status, signal) => {
      if (status === 0) resolve(Buffer.concat(said).toString('utf8'));
      else
        reject(complain(complaint.trim().split('\n')[0] || `${program.name} ended with ${signal ?? status}`));
    });
  });
}
