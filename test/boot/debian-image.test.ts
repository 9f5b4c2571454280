/** A distribution, as a directory and as an image: the same in a machine and in a container. */
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { tsvm } from '../support/cli.js';
import { debianProblem, debianRoot } from '../support/debian.js';
import { temporaryDirectory } from '../support/guest.js';
import { makeOciLayout } from '../support/oci-layout.js';

const problem = debianProblem();
const folder = temporaryDirectory();
const env = { TSVM_IMAGE_DIR: join(folder, 'images'), TSVM_TEMPLATE_DIR: join(folder, 'templates') };
let root = '';
let layout = '';

const MAKING_MS = 600_000;
beforeAll(() => {
  if (problem !== undefined) return;
  root = debianRoot();
  layout = makeOciLayout(join(folder, 'layout'), [{ directory: root }], { Cmd: ['bash'] });
}, MAKING_MS);

/** An interpreter, permissions, links, a program that is setuid, and no more: here, a program's start takes a second. */
const SCRIPT = `
cat /etc/debian_version; perl -e 'print join(",", map { $_ * $_ } 1 .. 5), "\\n"'
stat -c '%n %a %u:%g' /tmp /etc/shadow /usr/bin/passwd /bin
su nobody -s /bin/sh -c 'id -u; test -r /etc/shadow || echo shadow is safe'
echo end >&2; exit 9`;

const run = async (image: string, isolation: string) => {
  const args = [
    'run',
    '--image',
    image,
    '--isolation',
    isolation,
    '--memory',
    '256M',
    '--',
    'bash',
    '-c',
    SCRIPT,
  ];
  const { status, stdout, stderr } = await tsvm(args, { env, timeoutMs: MAKING_MS });
  return {
    status,
    stdout: stdout.toString(),
    stderr: stderr.replace(/^tsvm: (unpacking|making|booting|saved) .*\n/gm, ''),
  };
};

test(
  'Debian says the same in both, as a directory and as an image',
  async ({ skip }) => {
    skip(problem !== undefined, problem);
    const container = await run(root, 'container');
    expect(container).toMatchObject({ status: 9, stderr: 'end\n' });
    expect(container.stdout).toMatch(/^12\.\d+\n1,4,9,16,25\n/);
    expect(container.stdout).toMatch(/\n\/etc\/shadow 640 0:42\n(.*\n)*65534\nshadow is safe\n$/);
    expect(await run(layout, 'container')).toEqual(container);
    expect(await run(layout, 'vm')).toEqual(container);
    expect(await run(root, 'vm')).toEqual(container);
  },
  MAKING_MS,
);
