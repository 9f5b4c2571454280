/**
 * Refusals of commands before they look for a KVM, in one line of error and one of hint, if there is any. Most of those of `tsvm boot`
 * are in cli-bad-input.test.ts.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { tsvm } from '../support/cli.js';
import { tsvmHere } from '../support/cli-here.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
for (const name of ['RUN', 'IMAGE', 'TEMPLATE', 'GUEST']) vi.stubEnv(`TSVM_${name}_DIR`, join(folder, name));
afterAll(() => void vi.unstubAllEnvs());

const configuration = join(folder, 'config.json');
writeFileSync(
  configuration,
  JSON.stringify({
    'boot-source': { kernel_image_path: '/nope' },
    'machine-config': { vcpu_count: 1, mem: 64 },
  }),
);

const empty = join(folder, 'empty');
mkdirSync(empty);
const text = join(folder, 'text');
writeFileSync(text, 'no name\n');
const variables = join(folder, 'variables');
writeFileSync(variables, '# of the test\n\nNAME=value with blanks\n');

test.each([
  [['api', '--no-api'], '--no-api: then nobody could start the machine'],
  [['api', '--id', 'x'.repeat(65)], 'not 1 to 64 bytes\nhint: it is the host name'],
  [['api', '--config-file', '/nope'], 'cannot read the configuration /nope: no such file'],
  [['api', '--api-sock', '/nowhere/api.sock'], 'API socket /nowhere/api.sock'],
  [['api', '--no-api', '--config-file', configuration], '`machine-config.mem_size_mib`'],

  [['boot', '-d', '--name', 'a/b'], 'not a name for a machine'],
  [['boot', '--rm'], '--rm: a machine without a name leaves nothing'],
  [['snapshot', 'here', '--differential'], '--differential: a machine that boots was restored from nothing'],
  [['pause', 'nobody'], "there is no machine 'nobody'"],
  [['logs', 'nobody'], "there is no machine 'nobody'"],

  [['compare', '--runs', '0'], '--runs'],
  [['compare', '--counts', '1,x'], '--counts'],
  [['compare', '--cpus', '4000'], '--cpus 4000'],
  [['compare', '--html', '/nowhere/page.html'], 'cannot write /nowhere/page.html'],
  [['compare', '--part', 'speed'], 'is not one of start, memory, isolation'],

  [['run'], 'there is no command'],
  [['run', '--disk', '/tmp/x', '--', 'true'], 'only reads its disks\nhint: add ,ro'],
  [
    ['run', '--isolation', 'container', '--image', folder, '--disk', 'x', '--', 'true'],
    '--disk: a container has no such thing',
  ],
  [['run', '--isolation', 'jail', '--', 'true'], 'is not one of vm, container'],
  [
    ['run', '--image', folder, '--pids', '5', '--', 'true'],
    '--pids: a machine’s processes are its own kernel’s',
  ],
  [['run', '--image', folder], 'names no command'],
  [['run', '--image', '/nowhere', '--', 'true'], 'image /nowhere: there is no such file'],
  [['run', '--image', `${text}/x`, '--', 'true'], `image ${text}/x: there is no such file`],
  [['run', '--user', '5', '--', 'true'], '--user: it needs an image'],

  [['run', '--memory', '256', '--', 'true'], "--memory: '256' has no unit"],
  [['run', '--cpus', 'two', '--', 'true'], "--cpus: 'two' is not"],
  [['run', '--image', '/nowhere', '--memory', 'lots', '--', 'true'], "--memory: 'lots' is not a size"],
  [['run', '--image', '/nowhere', '--timeout', 'soon', '--', 'true'], "--timeout: 'soon' is not a duration"],
  [['run', '--image', empty, '--', 'true'], 'the directory is empty'],
  [['run', '--image', text, '--', 'true'], 'it is not an archive'],
  [['run', '-e', '=x', '--', 'true'], '--env =x: the name is missing'],
  [['run', '--hostname', '', '--', 'true'], 'hostname: it must be 1 to 64 bytes'],
  [
    ['run', '--isolation', 'container', '--hostname', 'x'.repeat(65), '--', 'true'],
    'hostname: it must be 1 to',
  ],
  [['run', '--env-file', '/nowhere', '--', 'true'], 'cannot read the env file /nowhere: no such file'],
  [['run', '--env-file', text, '--', 'true'], `${text}, line 1: 'no name' is not a name`],
  [['run', '--kernel', '/nowhere', '--', 'true'], 'cannot read kernel /nowhere: no such file'],
  [['run', '--kernel', text, '--', 'true'], `kernel ${text}: the file is not a kernel`],
  [['run', '--disk', `${text}x,ro`, '--', 'true'], 'cannot open disk'],
  [['run', '--share', '/nowhere:src', '--', 'true'], 'share /nowhere: no such file'],
  [['run', '--vsock', '/nowhere/v.sock', '--', 'true'], 'vsock /nowhere/v.sock'],
  [['run', '--timeline', '/nowhere/t.json', '--', 'true'], 'cannot write the timeline to /nowhere/t.json'],
  [['run', '--timeline', '', '--', 'true'], 'cannot write the timeline to : no such file'],
  [['boot', '--timeline', join(folder, 'none/')], 'none/: no such file'],
  [['boot', '--timeline', `${text}/`], 'text/: a part of the path is not a directory'],
  [['compare', '--html', ''], 'cannot write : no such file'],
  [['compare', '--json', `${folder}/none/..`], 'none/..: no such file'],
  [['run', '--name', 'a', '--name', 'b', '--', 'true'], "--name: it is given twice, 'a' and 'b'"],
  [['run', '--vsock', 'a', '--vsock', 'b', '--', 'true'], '--vsock: it is given twice'],
  [['run', '--', ''], 'there is no command: its first word is empty'],
  [['run', '--isolation', 'container', '--cpus', 'two', '--', 'true'], "--cpus: 'two' is not a number"],
  [['run', '--isolation', 'container', '--net', 'tap,name=x', '--', 'true'], 'a container has only user'],
  [['boot', '--initrd', text], `initramfs ${text}: the file is not an initramfs`],
  [['boot', '--console', 'vga'], 'is not one of serial, virtio, none'],
  [['snapshot', text], 'it is a link, or no directory'],
  [['snapshot', join(folder, 'here'), '--memory', '256'], "--memory: '256' has no unit"],
  [['restore', '/nope', '--timeout', 'soon'], "--timeout: 'soon' is not a duration"],
  [['container', 'run', '--rootfs', '/nope', '--timeout', 'soon', '--', 'true'], "'soon' is not a duration"],
  [['container', 'run', '--rootfs', '/nope', '--memory', '256', '--', 'true'], "'256' has no unit"],
  [['container', 'run', '--rootfs', '/nope', '--cpus', '0', '--', 'true'], 'a limit of 0 CPUs'],
  [['run', '--isolation', 'container', '--memory', '4k', '--', 'true'], 'nothing starts in it'],
  [['run', '--isolation', 'container', '--workdir', 'tmp', '--', 'true'], 'not an absolute path'],
  [['run', '--root-disk', '1M', '--', 'true'], 'is no size of a root disk'],
  [['run', '--root-disk', '2000G', '--', 'true'], 'is no size of a root disk'],
  [
    ['run', '--isolation', 'container', '--root-disk', '4G', '--', 'true'],
    'what a container writes is in memory',
  ],
  [['container', 'run', '--rootfs', '/nope', '--', 'true'], '/nope: there is no such file'],

  [['boot', '-p', '8080:80'], "unknown option '-p'\nhint: --net user,hostfwd="],
  [['run', '-p', '80', '--', 'true'], "--publish: '80' is not [ADDRESS:]HOSTPORT:GUESTPORT"],
  [['run', '-p', '8080:99999', '--', 'true'], "'99999' is not a port"],
  [
    ['run', '-p', '8080:80', '--net', 'tap,name=x', '--', 'true'],
    '--publish: the card --net tap,name=x has no',
  ],
  [['run', '--entrypoint', 'sh', 'true'], '--entrypoint: it needs an image'],
  [
    ['container', 'run', '--share', 'net', '--', 'true'],
    "unknown option '--share'\nhint: --host-namespace NAME",
  ],
  [['run', '-v', 'a:b', '--', 'true'], '--volume: a machine mounts a folder itself'],
  [['boot', '--volume', 'a:b'], "unknown option '--volume'\nhint: --share DIR:TAG"],
  [
    ['snapshot', join(folder, 'here'), 'ls', '-l'],
    "'-l'\nhint: an option of the command that is to be run comes after --",
  ],
  [['run', '--nonsense', 'true'], "unknown option '--nonsense'\nhint: tsvm run --help"],
  [['run', '--memmory', '1G', 'true'], '(Did you mean --memory?)'],
  [['run', '--pull', 'never', 'debian:12'], 'image debian:12: no image of that name is kept'],
  [['run', '--pull', 'never', 'bin/busybox', 'sh'], 'image bin/busybox: no image of that name is kept'],
  [['run', '--pull', 'never', `${'a'.repeat(3)}:${'b'.repeat(3)}`, '--', 'sh'], 'image aaa:bbb: no image'],
  [['run', '--user', '5', 'sh'], '--user: it needs an image'],
  [['ps', '--format', '{{.Nope}}'], "--format: there is no field '{{.Nope}}'\nhint: json, or of {{.Name}}, "],
  [['ps', '--filter', 'size=1'], "--filter: 'size=1' is not NAME=VALUE"],
  [['image'], "unknown command 'image'\nhint: the commands of images have no word before them"],
  [['exec', 'web', 'ls'], "there is no machine 'web'"],
  [['build', '-t', 'app', '.'], "unknown command 'build'\nhint: "],
  [['unpause', 'web'], 'hint: tsvm resume NAME'],
  [['toString'], "unknown command 'toString'\nhint: tsvm --help"],
  [['container', 'images'], "unknown command 'images'\nhint: tsvm container --help"],
  [['start'], "missing required argument 'name'\nhint: tsvm start [options] <name...>"],
  [
    ['start', 'pool', 'x', '--snapshot', '/d'],
    'hint: a machine in the process of tsvm serve: tsvm make POOL NAME',
  ],
  [['start', 'x', '--nope'], "unknown option '--nope'\nhint: tsvm start --help"],
  [['start', 'nobody'], "there is no machine 'nobody'"],
  [['restart', 'nobody'], "there is no machine 'nobody'"],
  [['rename', 'nobody', 'a/b'], 'not a name for a machine'],
  [['rename', 'nobody', 'x'], "there is no machine 'nobody'"],
  [['make'], "missing required argument 'pool'\nhint: tsvm make [options] <pool> <name>"],
  [
    ['container', 'run'],
    "missing required argument 'command'\nhint: tsvm container run [options] <command...>",
  ],

  [['restore', '/nope', '--disk', 'root.img'], 'does not say which of the saved machine'],
  [['restore', '/nope', '--share', 'src'], 'does not say which of the saved machine'],
  [['restore', '/nope', '--net', '0=lan'], "there is no network 'lan'"],
  [['restore', '/nope', '--pmem', '0=a', '--pmem', '0=b'], 'pmem 0 is named twice'],
  [['restore', '/nope', '--vsock', '/v', '--disk', '0=/d'], '/nope is not a snapshot'],

  [['make', 'pool', 'a/b', '--snapshot', '/nope'], 'not a name for a machine'],
  [['make', 'pool', 'x', '--config-file', configuration, '--disk', '0=/d'], 'has it in its --config-file'],
  [['make', 'nobody', 'x', '--snapshot', '/nope'], "there is no machine 'nobody'"],

  [['template', 'rm', 'nothing'], 'there is no template nothing\nhint: tsvm template list'],
  [['top'], 'hint: for scripts: tsvm top --once'],
])('%j is refused', async (args, message) => {
  const { status, stdout, stderr } = await tsvmHere(args);
  expect([stderr, status, stdout.toString()]).toEqual([expect.stringContaining(message), 2, '']);
  expect(stderr).toMatch(/^tsvm: .*\n(hint: .*\n)?$/);
});

/** More than guests/init has room for. */
test.each([
  [300_000, 'bytes with its environment', ['run', '--', 'x'.repeat(300_000)]],
  [300_000, 'bytes with its environment', ['run', '-e', `A=${'x'.repeat(300_000)}`, '--', 'true']],
  [4097, 'words', ['run', '--', ...new Array<string>(4097).fill('x')]],
  [4097, 'words', ['boot', '--', ...new Array<string>(4097).fill('x')]],
  [4097, 'words', ['snapshot', join(folder, 'here'), '--', ...new Array<string>(4097).fill('x')]],
  [8193, 'variables', ['run', ...Array.from({ length: 8193 }, (_, i) => `-eV${i}=1`), '--', 'true']],
])('a command of %i %s is refused', async (least, what, args) => {
  const { status, stdout, stderr } = await tsvmHere(args);
  expect([status, stdout.toString()]).toEqual([2, '']);
  const [, count = 0, said] =
    /^tsvm: command: (\d+) (.*)\nhint: no more than \d+ fit; .*\n$/.exec(stderr) ?? [];
  expect([said, Number(count) >= least]).toEqual([what, true]);
});

/** Command lines that are understood: with no guest, they come as far as this host, or the guest that it lacks. */
test.each([
  [['run', 'uname', '-a']],
  [['run', '--', 'uname', '-a']],
  [['boot', 'uname', '-a']],
  [['run', '-it', 'sh', '-c', 'exit 3']],
  [['run', '-i', '-t', '--rm', 'sh']],
  [['run', '--env-file', variables, '-e', 'A=1', 'env']],
  [['run', '--memory', '1G', '--memory', '2G', '--name', 'a', '--name', 'a', 'true']],
  [['run', './debian:12']],
  [['run', '/bin/busybox', 'true']],
  [['run', '--', 'debian:12']],
  [['run', '--', '--', 'debian:12']],
  [['run', 'debian']],
  [['boot', '--debug']],
])('%j is understood', async (args) => {
  const { status, stdout, stderr } = await tsvmHere(args);
  expect(stderr).toMatch(/^tsvm: (cannot open \/dev\/kvm|\/dev\/kvm|the guest 'default' has not been built)/);
  expect([status === 125 || status === 2, stdout.toString()]).toEqual([true, '']);
});

test('tsvm api --openapi prints the description, also with all that clients give Firecracker by default', async () => {
  const byDefault = ['--api-sock', join(folder, 'api.sock'), '--id', '0f-1', '--no-seccomp'];
  const { stdout } = await tsvm(['api', ...byDefault, '--openapi']);
  expect(JSON.parse(stdout.toString())).toMatchObject({ openapi: '3.1.0', paths: { '/actions': {} } });
});
