/** An image's configuration is data: nothing in it is read with the grammar of the command line. */
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { environment, parseVariables } from '../../../src/cli/environment.js';
import { imageCommand, openImage } from '../../../src/cli/options/image-command.js';
import { checkSentCommand } from '../../../src/guest/command.js';
import { temporaryDirectory } from '../../support/guest.js';
import { makeOciLayout } from '../../support/oci-layout.js';

const folder = temporaryDirectory();
let count = 0;

afterEach(() => void vi.unstubAllEnvs());

async function commandOf(config: object, options: object = {}) {
  const path = join(folder, String(count++));
  vi.stubEnv('TSVM_IMAGE_DIR', `${path}.store`);
  const layout = makeOciLayout(path, [{ 'etc/passwd': 'app:x:7:8::/home/app:/bin/sh\n' }], config);
  const image = await openImage([], layout);
  return await imageCommand([], { image, ...options }, (opened, store) => store.directoryOf(opened));
}

describe('imageCommand()', () => {
  test('is a command that a guest takes, with a user by name', async () => {
    const { command } = await commandOf({ User: 'app', Cmd: ['sh'] });
    expect(() => checkSentCommand(command)).not.toThrow();
    expect(command).toMatchObject({ user: { uid: 7, gid: 8 }, env: { HOME: '/home/app' } });
  });

  test('gives an image none of this process’s variables, whatever its Env says', async () => {
    vi.stubEnv('TSVM_TEST_SECRET', 'hunter2');
    const Env = [
      'TSVM_TEST_SECRET',
      '=x',
      '=',
      '',
      'A=1',
      'B=x=y',
      'C=',
      'D=nul\0D',
      'E\0=1',
      '__proto__=p',
      'A=2',
      '$TSVM_TEST_SECRET=1',
      'F=$TSVM_TEST_SECRET',
    ];
    const { command } = await commandOf({ Env, Cmd: ['sh'] });
    expect(JSON.stringify(command)).not.toContain('hunter2');
    const { PATH, HOME, HOSTNAME, TERM, ...others } = command.env;
    expect(Object.entries(others)).toEqual([
      ['A', '2'],
      ['B', 'x=y'],
      ['C', ''],
      ['__proto__', 'p'],
      ['$TSVM_TEST_SECRET', '1'],
      ['F', '$TSVM_TEST_SECRET'],
    ]);
  });

  test('gives it what the operator names', async () => {
    vi.stubEnv('TSVM_TEST_SECRET', 'hunter2');
    const env = ['TSVM_TEST_SECRET', 'TSVM_TEST_ABSENT', 'A=typed'];
    const { command } = await commandOf({ Env: ['A=1'], Cmd: ['sh'] }, { env });
    expect(command.env).toMatchObject({ TSVM_TEST_SECRET: 'hunter2', A: 'typed' });
    expect(command.env).not.toHaveProperty('TSVM_TEST_ABSENT');
  });

  test('takes a working directory from the root, as Docker does', async () => {
    expect((await commandOf({ Cmd: ['sh'], WorkingDir: 'srv/app' })).command.cwd).toBe('/srv/app');
    expect((await commandOf({ Cmd: ['sh'], WorkingDir: '/a:b,ro=1 --x' })).command.cwd).toBe('/a:b,ro=1 --x');
  });
});

describe('environment()', () => {
  test('takes a value from this process only for a name without one', () => {
    const own = { A: 'own', inherit: 'own' };
    expect(environment(parseVariables(['A', 'B', 'inherit', 'C=inherit', 'D=a=b']), own)).toEqual({
      A: 'own',
      inherit: 'own',
      C: 'inherit',
      D: 'a=b',
    });
    expect(() => parseVariables(['=x'])).toThrow('--env =x: the name is missing');
  });
});
