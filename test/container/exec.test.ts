/** `tsvm exec`, `cp`, `port` and `forward`, at a container with a name. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CliOptions, cliProblem, run, TSVM, tsvm } from '../support/cli.js';
import { makeBusyboxRoot } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const root = join(folder, 'root');
const runs = temporaryDirectory();
const env = { TSVM_RUN_DIR: runs };

const cli = async (args: readonly string[], options: CliOptions = {}) => {
  const { status, stdout, stderr } = await tsvm(args, { env, ...options });
  return { status, out: stdout.toString(), said: stderr.trim() };
};
const exec = async (script: string) => (await cli(['exec', 'box', 'sh', '-c', script])).out;

beforeAll(async () => {
  const problem = cliProblem();
  if (problem !== undefined) throw new Error(problem);
  makeBusyboxRoot(root);
  mkdirSync(join(root, 'etc'), { recursive: true });
  mkdirSync(join(root, 'srv'), { recursive: true });
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n',
  );
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nalice:x:1000:\nwheel:x:77:alice\n');
  const begun = [
    'run',
    '-d',
    '--name',
    'box',
    '--isolation',
    'container',
    '--image',
    root,
    '--',
    'sleep',
    '1000',
  ];
  expect(await cli(begun)).toMatchObject({ status: 0 });
});
afterAll(async () => {
  await cli(['rm', '-f', 'box']);
});

describe('tsvm exec', () => {
  test('has the output, input and exit status of its command', async () => {
    expect(await cli(['exec', 'box', 'sh', '-c', 'echo out; echo err >&2; exit 7'])).toEqual({
      status: 7,
      out: 'out\n',
      said: 'err',
    });
    expect(await cli(['exec', '-i', 'box', 'cat'], { input: 'typed' })).toMatchObject({
      status: 0,
      out: 'typed',
    });
    expect(await cli(['exec', 'box', 'cat'], { input: 'not read' })).toMatchObject({ status: 0, out: '' });
    expect(await cli(['exec', 'box', 'sh', '-c', 'kill -9 $$'])).toMatchObject({ status: 137 });
  });

  test('runs it as who, where and with what it is told', async () => {
    const options = ['-u', 'alice', '-w', '/srv', '-e', 'A=1 2'];
    const script = 'echo "$(id -u):$(id -g):$(id -G)" "$PWD" "$A" "$HOME"';
    expect(await cli(['exec', ...options, 'box', 'sh', '-c', script])).toMatchObject({
      out: '1000:1000:1000 77 /srv 1 2 /home/alice\n',
    });
    expect((await cli(['exec', '-u', '5:6', 'box', 'id', '-u'])).out).toBe('5\n');
  });

  test('leaves a command to itself', async () => {
    expect(await cli(['exec', '-d', 'box', 'sh', '-c', 'sleep 0.2; echo done > /srv/detached'])).toEqual({
      status: 0,
      out: '',
      said: '',
    });
    expect(await exec('until [ -s /srv/detached ]; do sleep 0.05; done; cat /srv/detached')).toBe('done\n');
  });

  test('says in a line what cannot be', async () => {
    const said = async (...args: string[]) => await cli(['exec', ...args]);
    expect(await said('box', 'nope')).toMatchObject({ status: 127, said: /^tsvm: nope: not found\nhint: / });
    expect(await said('box', '/etc/passwd')).toMatchObject({ status: 126, said: /^tsvm: \/etc\/passwd: / });
    expect(await said('-w', '/nope', 'box', 'true')).toMatchObject({
      status: 126,
      said: /\/nope cannot be entered/,
    });
    expect(await said('-u', 'bob', 'box', 'true')).toMatchObject({ status: 2, said: /there is no 'bob'/ });
    expect(await said('none', 'true')).toMatchObject({ status: 2, said: /there is no machine 'none'/ });
    expect(await said('-it', 'box', 'true')).toMatchObject({
      status: 2,
      said: /-t: standard input is not a terminal/,
    });
    expect((await said('box')).status).toBe(2);
  });

  test('passes signals on, and a broken pipe', async () => {
    const script = `trap 'echo got; exit 3' INT; echo ready; while :; do sleep 0.05; done`;
    let interrupted = false;
    const ended = await cli(['exec', 'box', 'sh', '-c', script], {
      onOutput(soFar, child) {
        if (!interrupted && soFar.includes('ready')) child.kill('SIGINT');
        interrupted = soFar.includes('ready');
      },
    });
    expect(ended).toMatchObject({ status: 3, out: 'ready\ngot\n' });
    const piped = await run('sh', ['-c', `node ${TSVM} exec box yes | head -n 1`], { env });
    expect(piped.stdout.toString()).toBe('y\n');
    expect(await exec('ps | grep -c "[y]es"')).toBe('0\n');
  });

  test('gives it a terminal of this one’s size, and puts this one back', async () => {
    const inside = `node ${TSVM} exec -it box sh -c "stty size; tty"`;
    const script = `stty rows 33 cols 77; a=$(stty -g); ${inside}; [ "$a" = "$(stty -g)" ] && echo restored`;
    const { stdout } = await run('script', ['-qec', script, '/dev/null'], { env });
    expect(stdout.toString().replaceAll('\r', '')).toMatch(/33 77\n\/dev\/pts\/\d+\nrestored/);
  });

  test('many at once', async () => {
    const all = Array.from({ length: 12 }, (_, i) => cli(['exec', 'box', 'sh', '-c', `exit ${i}`]));
    expect((await Promise.all(all)).map(({ status }) => status)).toEqual(all.map((_, i) => i));
  });
});

describe('tsvm cp', () => {
  const here = join(folder, 'here');
  const odd = Buffer.from('n\n\xff', 'latin1');

  beforeAll(() => {
    mkdirSync(join(here, 'tree/sub'), { recursive: true });
    writeFileSync(join(here, 'file'), 'content', { mode: 0o755 });
    writeFileSync(join(here, 'tree/sub/f'), 'deep');
    writeFileSync(Buffer.concat([Buffer.from(`${here}/tree/`), odd]), 'odd');
    symlinkSync('sub/f', join(here, 'tree/link'));
  });

  test('copies a file both ways, with its mode', async () => {
    expect(await cli(['cp', join(here, 'file'), 'box:/srv/'])).toEqual({ status: 0, out: '', said: '' });
    expect(await exec('cat /srv/file; stat -c " %a %u" /srv/file')).toBe('content 755 0\n');
    expect(await cli(['cp', 'box:/srv/file', join(here, 'back')])).toMatchObject({ status: 0 });
    expect(readFileSync(join(here, 'back'), 'utf8')).toBe('content');
    expect(lstatSync(join(here, 'back')).mode & 0o777).toBe(0o755);
  });

  test('copies directories both ways, whatever their names, and joins them', async () => {
    expect(await cli(['cp', join(here, 'tree'), 'box:/srv/tree'])).toMatchObject({ status: 0 });
    expect(await exec('cd /srv/tree; cat sub/f; readlink link; ls | wc -l')).toBe('deepsub/f\n3\n');
    expect(await cli(['cp', `${here}/tree/.`, 'box:/srv/tree'])).toMatchObject({ status: 0 });
    expect(await exec('ls /srv/tree | wc -l')).toBe('3\n');
    expect(await cli(['cp', join(here, 'tree'), 'box:/srv/tree'])).toMatchObject({ status: 0 });
    expect(await exec('cat /srv/tree/tree/sub/f')).toBe('deep');
    const to = join(here, 'to');
    expect(await cli(['cp', 'box:/srv/tree', to])).toMatchObject({ status: 0 });
    expect(readlinkSync(join(to, 'link'))).toBe('sub/f');
    expect(readFileSync(Buffer.concat([Buffer.from(`${to}/`), odd]), 'utf8')).toBe('odd');
    expect(await cli(['cp', 'box:/srv/tree/.', to])).toMatchObject({ status: 0 });
    expect(readdirSync(to).length).toBe(4);
  });

  test('takes and gives archives', async () => {
    const { stdout } = await run('tar', ['-C', here, '-c', 'tree']);
    expect(await cli(['cp', '-', 'box:/srv'], { input: stdout })).toMatchObject({ status: 0 });
    const given = await tsvm(['cp', 'box:/srv/tree/sub', '-'], { env });
    const listed = await run('tar', ['-t'], { input: given.stdout });
    expect(listed.stdout.toString()).toBe('sub/\nsub/f\n');
  });

  test('a link that the container made leads nowhere on the host', async () => {
    const victim = join(folder, 'victim');
    const to = join(here, 'links');
    mkdirSync(to);
    mkdirSync(victim);
    await exec(
      `mkdir -p /srv/evil; ln -s ${victim} /srv/evil/x; chmod u+s /bin/busybox; ln /bin/busybox /srv/evil/suid`,
    );
    expect(await cli(['cp', 'box:/srv/evil/.', to])).toMatchObject({ status: 0 });
    expect(lstatSync(join(to, 'suid')).mode & 0o7000).toBe(0);
    await exec('rm /srv/evil/x; mkdir /srv/evil/x; echo bad > /srv/evil/x/bad');
    expect(await cli(['cp', 'box:/srv/evil/.', to])).toMatchObject({ status: 2, said: /symbolic link/ });
    expect(existsSync(join(victim, 'bad'))).toBe(false);
  });

  test('says in a line what cannot be', async () => {
    const said = async (from: string, to: string) => await cli(['cp', from, to]);
    expect(await said('box:/nope', here)).toMatchObject({ status: 2, said: /\/nope: no such file/ });
    expect(await said(join(here, 'nope'), 'box:/')).toMatchObject({ status: 2, said: /nope: no such file/ });
    expect(await said(join(here, 'file'), 'box:/no/')).toMatchObject({
      status: 2,
      said: /\/no\/ is not there/,
    });
    expect(await said(join(here, 'tree'), 'box:/etc/passwd')).toMatchObject({
      status: 2,
      said: /is no directory/,
    });
    expect(await said('a', 'b')).toMatchObject({ status: 2, said: /no side is in a machine/ });
    expect(await said('a:b', 'c:d')).toMatchObject({ status: 2, said: /both sides/ });
    expect(await said('-', 'box:/nope')).toMatchObject({ status: 2, said: /is no directory there/ });
  });
});

describe('tsvm port and forward', () => {
  test('list and reach what listens on the loopback interface, without a network', async () => {
    await exec('(while :; do echo hello | nc -l -p 8080; done) > /dev/null 2>&1 &');
    await exec('until netstat -ltn | grep -q :8080; do sleep 0.05; done');
    expect(JSON.parse((await cli(['port', '--json', 'box'])).out)).toMatchObject([
      { protocol: 'tcp', port: 8080 },
    ]);
    const child = spawn(process.execPath, [TSVM, 'forward', 'box', '8080'], {
      env: { ...process.env, ...env },
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const [, port] = /^127\.0\.0\.1:(\d+) -> box:8080\n$/.exec(line.toString()) ?? [];
    expect(await text(connect(Number(port), '127.0.0.1').on('error', () => {}))).toBe('hello\n');
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([0, null]);
  });
});
