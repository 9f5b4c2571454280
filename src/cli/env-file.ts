/** `--env-file`: variables of a command in a file, in Docker's form. */
import { TsvmError } from '../errors.js';
import { readInputText } from '../host/files.js';
import { KIB } from '../util/units.js';

/** Bound of a file, far above what a command's environment may have. */
const MAX_FILE_BYTES = 1024 * KIB;

/**
 * Adds the variables of the files to those that were typed, which come last and so count.
 *
 * @throws TsvmError `TSVM_FILE` that names the file and the line.
 */
export async function withEnvFiles<Options extends { envFile?: readonly string[]; env?: string[] }>(
  options: Options,
): Promise<Options> {
  const { envFile = [], env = [] } = options;
  if (envFile.length === 0) return options;
  const read: string[] = [];
  for (const path of envFile) read.push(...(await readEnvFile(path)));
  return { ...options, env: [...read, ...env] };
}

/** Reads lines of `NAME=VALUE`, and `NAME` for one of this process's. Values are as they stand, quotes too; `#` begins a line of comment. */
async function readEnvFile(path: string): Promise<string[]> {
  const text = await readInputText('the env file', path, { code: 'TSVM_FILE', maxBytes: MAX_FILE_BYTES });
  return text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .flatMap((line, i) => {
      const variable = line.trimStart();
      if (variable === '' || variable.startsWith('#')) return [];
      const [name = ''] = variable.split('=', 1);
      if (name === '' || /[\s\0]/.test(name) || variable.includes('\0')) {
        throw new TsvmError('TSVM_FILE', `the env file ${path}, line ${i + 1}: '${name}' is not a name`, {
          hint: 'each line is NAME=VALUE, NAME, or a comment that begins with #',
        });
      }
      return [variable];
    });
}
