/** `tsvm run` as a user has it: one template for the whole file, a machine for each test. */
import type { ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { type CliOptions, type CliResult, run, TSVM, tsvm } from '../support/cli.js';
import { inRig, interpreted, temporaryDirectory } from '../support/guest.js';
import { notHere } from '../support/skip-reasons.js';
import { memoryFile } from '../support/snapshots.js';

const root = temporaryDirectory();
const templates = join(root, 'templates');
const env = { TSVM_TEMPLATE_DIR: templates };
const MEMORY = ['--memory', '64M'];
const BULK_BYTES = interpreted ? 200_000 : 1_000_000;

/** `tsvm run ARGS...` in little memory. */
function tsvmRun(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return tsvm(['run', ...MEMORY, ...args], { ...options, env: { ...env, ...options.env } });
}

const sh = (script: string): string[] => ['--', 'sh', '-c', script];

function keys(directory = templates): string[] {
  return readdirSync(directory).filter((name) => /^[0-9a-f]{16}$/.test(name));
}

beforeAll(async () => {
  // Two at once: one of them boots, the other waits for it.
  const both = await Promise.all([tsvmRun(sh('echo one')), tsvmRun(sh('echo two'))]);
  expect(both.map(({ status }) => status)).toEqual([0, 0]);
  expect(both.map(({ stdout }) => stdout.toString())).toEqual(['one\n', 'two\n']);
  const said = both.map(({ stderr }) => stderr).join('');
  expect(said.match(/booting a template for this configuration, once/g)).toHaveLength(1);
  expect(said.match(/saved in /g)).toHaveLength(1);
  expect(keys()).toHaveLength(1);
}, 300_000);

describe('tsvm run', () => {
  test('from a template says nothing of its own', async () => {
    const result = await tsvmRun(sh('echo out; echo err >&2; exit 7'));
    expect(result).toMatchObject({ status: 7, stderr: 'err\n' });
    expect(result.stdout.toString()).toBe('out\n');
  });

  test('passes any bytes through, in and out', async () => {
    const bytes = randomBytes(BULK_BYTES);
    const result = await tsvmRun(['--', 'cat'], { input: bytes });
    expect(result).toMatchObject({ status: 0, stderr: '' });
    expect(createHash('sha1').update(result.stdout).digest('hex')).toBe(
      createHash('sha1').update(bytes).digest('hex'),
    );
  });

  test('-e, -w and --hostname are the command’s', async () => {
    const result = await tsvmRun(
      [
        '-e',
        'A=x y',
        '-e',
        'FROM_HERE',
        '-e',
        'NOT_SET',
        '-w',
        '/root',
        '--hostname',
        'there',
        ...sh('echo "$A|$FROM_HERE|$NOT_SET|$(pwd)|$(hostname)"'),
      ],
      { env: { FROM_HERE: 'here' } },
    );
    expect(result.stdout.toString()).toBe('x y|here||/root|there\n');
  });

  test('begins the command at the first word that is no option, and takes -i, -t, --rm and --env-file', async () => {
    const variables = join(root, 'variables');
    writeFileSync(variables, 'A=of the file\nB=of the file\n');
    const options = ['-it', '--rm', '--env-file', variables, '-e', 'B=typed'];
    const { status, stdout } = await tsvmRun([...options, 'sh', '-c', 'tty; echo "$A, $B"; exit 3']);
    expect([status, stdout.toString()]).toEqual([
      3,
      expect.stringMatching(/^\/dev\/\w+\r\nof the file, typed\r\n$/),
    ]);
  });

  test.each([
    ['127', ['--', 'no-such-program'], 127],
    ['126', ['--', '/root'], 126],
    ['128 + 9', sh('kill -9 $$'), 137],
  ])('exits with %s as a shell does', async (_name, args, status) => {
    expect(await tsvmRun(args)).toMatchObject({ status });
  });

  test('/dev/null and a closed standard input are no input', async () => {
    for (const redirect of ['</dev/null', '<&-']) {
      const command = `"$0" "$1" run --memory 64M -- sh -c 'cat; echo end' ${redirect}`;
      const result = await run('sh', ['-c', command, process.execPath, TSVM], { env });
      expect(result).toMatchObject({ status: 0, stderr: '' });
      expect(result.stdout.toString()).toBe('end\n');
    }
  });

  test('an input that never ends does not keep it', async () => {
    const result = await tsvmRun(sh('echo done'), { onOutput: () => {} });
    expect(result.stdout.toString()).toBe('done\n');
  });

  test('| head -c 10 ends it', async () => {
    const command = `"$0" "$1" run --memory 64M -- yes abc | head -c 10; echo " \${PIPESTATUS[0]}"`;
    const result = await run('bash', ['-c', command, process.execPath, TSVM], { env });
    expect(result.stdout.toString()).toBe('abc\nabc\nab 141\n');
    expect(result.stderr).toBe('');
  });

  test('SIGINT and SIGTERM reach the command, and its status is the exit status', async () => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGUSR1'] as const) {
      let sent = false;
      const result = await tsvmRun(
        sh(`trap 'echo got; exit 9' ${signal.slice(3)}; echo up; while :; do sleep 0.1; done`),
        {
          onOutput(soFar, child) {
            if (sent || !soFar.includes('up\n')) return;
            sent = true;
            child.kill(signal);
          },
        },
      );
      expect({ signal, status: result.status, out: result.stdout.toString() }).toEqual({
        signal,
        status: 9,
        out: 'up\ngot\n',
      });
    }
  });

  test('a second SIGINT ends a machine whose command ignores the first', async () => {
    let sent = 0;
    const result = await tsvmRun(sh(`trap 'echo no' INT; echo up; while :; do sleep 0.1; done`), {
      onOutput(soFar, child) {
        const wanted = soFar.includes('no\n') ? 2 : soFar.includes('up\n') ? 1 : 0;
        for (; sent < wanted; sent++) child.kill('SIGINT');
      },
    });
    expect(result).toMatchObject({ status: 130, signal: null });
  });

  test('waits for a reader of its output that has stopped reading until a signal, after the command too', async () => {
    const script = join(root, 'unread');
    // The command's end is known by its last words; what it said before fills the FIFO.
    const command = 'head -c 120000 /dev/zero; echo said >&2';
    writeFileSync(
      script,
      `mkfifo "$0.fifo" && exec 3<>"$0.fifo"
      node '${TSVM}' run ${MEMORY.join(' ')} -- sh -c '${command}' > "$0.fifo" 2> "$0.said" & machine=$!
      until grep -q said "$0.said"; do sleep 0.1; done
      while kill -INT $machine; do sleep 1; done 2>&3
      wait $machine; echo $?`,
    );
    const result = await run('bash', [script], { env });
    expect(result.stdout.toString()).toBe('130\n');
  });

  test('--timeout ends it with 124 and says so', async () => {
    const result = await tsvmRun(['--timeout', '3s', ...sh('echo up; sleep 100')]);
    expect(result).toMatchObject({
      status: 124,
      stderr: 'tsvm: the machine was ended after 3s, as --timeout asks\n',
    });
    expect(result.stdout.toString()).toBe('up\n');
  });

  test('two of them that read /dev/urandom first thing read different bytes', async () => {
    const results = await Promise.all([0, 1].map(() => tsvmRun(sh('head -c 16 /dev/urandom | sha1sum'))));
    expect(results.map(({ status }) => status)).toEqual([0, 0]);
    expect(results[0]!.stdout).not.toEqual(results[1]!.stdout);
  });

  test('has the time of day', async () => {
    const before = Date.now() / 1000;
    const result = await tsvmRun(sh('date +%s'));
    const guest = Number(result.stdout.toString());
    expect(guest).toBeGreaterThanOrEqual(Math.floor(before) - 1);
    expect(guest).toBeLessThanOrEqual(Date.now() / 1000 + 1);
  });

  test('a root that is full is ENOSPC to a command, which is not killed, and is said', async ({ skip }) => {
    if (interpreted) skip(notHere('this KVM interprets the guest’s kernel, and takes a second for a MiB'));
    const result = await tsvmRun(['dd', 'if=/dev/zero', 'of=/big', 'bs=1M', 'count=200']);
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/No space left on device/);
    expect(result.stderr).toMatch(/^tsvm: the root of the machine is full; --root-disk 4G gives it more$/m);
  });

  test('a command that is too long is refused at once, with its input still open', async () => {
    // Of what execve(2) takes, and the channel does not.
    const args = Array.from({ length: 3 }, () => 'x'.repeat(100_000));
    const result = await tsvmRun(['--', 'echo', ...args], { onOutput: () => {} });
    expect(result).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^tsvm: command: \d+ bytes .*\nhint: .*\n$/),
    });
  });

  test('ten at once each have a machine of their own', async () => {
    const count = interpreted || inRig ? 3 : 10;
    const results = await Promise.all(
      Array.from({ length: count }, (_, i) => tsvmRun(sh(`echo ${i} > /root/me; sleep 1; cat /root/me`))),
    );
    expect(results.map(({ stdout }) => stdout.toString())).toEqual(results.map((_, i) => `${i}\n`));
  });
});

describe('tsvm run in a terminal', () => {
  const typescript = join(root, 'typescript');
  const inTerminal = (command: string, options: CliOptions = {}): Promise<CliResult> =>
    run('script', ['-qec', `"${process.execPath}" "${TSVM}" run --memory 64M ${command}`, typescript], {
      ...options,
      env,
    });

  test('gives the command one, with its size', async () => {
    const result = await inTerminal(`-- sh -c 'tty; test -t 0 && test -t 1 && echo yes; exit 5'`);
    expect(result.stdout.toString()).toMatch(/^\/dev\/\S+\r\nyes\r\n$/);
    expect(result.status).toBe(5);
  });

  test('takes what is typed, and Ctrl-C is the command’s', async () => {
    let step = 0;
    const result = await inTerminal(
      `-- sh -c 'trap "echo; echo int; exit 3" INT; echo up; read line; echo "<$line>"; while :; do sleep 0.1; done'`,
      {
        onOutput(soFar, child) {
          if (step === 0 && soFar.includes('up\r\n')) {
            step = 1;
            child.stdin?.write('hello\r');
          } else if (step === 1 && soFar.includes('<hello>')) {
            step = 2;
            child.stdin?.write('\x03');
          }
        },
      },
    );
    expect(result.stdout.toString()).toContain('<hello>');
    expect(result.stdout.toString()).toContain('int\r\n');
    expect(result.status).toBe(3);
  });

  test('leaves it as it was, also when the command is refused', async () => {
    const script = join(root, 'refused.sh');
    const lines = [
      'before=$(stty -g)',
      "long=$(head -c 100000 /dev/zero | tr '\\0' x)",
      '"$NODE" "$TSVM" run --memory 64M -- echo "$long" "$long" "$long"',
      'echo "status $?"',
      'test "$before" = "$(stty -g)" && echo same',
    ];
    writeFileSync(script, lines.join('\n'));
    const result = await run('script', ['-qec', `sh ${script}`, typescript], {
      env: { ...env, NODE: process.execPath, TSVM },
    });
    expect(result.stdout.toString()).toMatch(/status 2\r\nsame\r\n$/);
  });
});

describe('a template', () => {
  test('is listed, as text and as JSON', async () => {
    const [key] = keys();
    const text = await tsvm(['template', 'list'], { env });
    expect(text.stdout.toString()).toMatch(new RegExp(`^${key}  [0-9.]+ [KMG]iB  used 20\\d\\d-`));
    const json = await tsvm(['template', 'list', '--json'], { env });
    expect(JSON.parse(json.stdout.toString())).toEqual([
      { key, directory: join(templates, key!), lastUsedMs: expect.any(Number), bytes: expect.any(Number) },
    ]);
  });

  test('that fits is kept by prune', async () => {
    const result = await tsvm(['template', 'prune'], { env });
    expect(result).toMatchObject({ status: 0, stderr: '' });
    expect(result.stdout.toString()).toBe('');
    expect(keys()).toHaveLength(1);
  });

  test('is used from a folder that cannot be written', async () => {
    // Root may write anywhere but on a file system that is read-only.
    const mount = join(root, 'read-only');
    mkdirSync(mount);
    const { status } = await run('mount', ['--bind', '-o', 'ro', templates, mount]);
    if (status !== 0)
      return process.stderr.write('!! cannot mount: templates that are only read are NOT tested\n');
    try {
      const result = await tsvmRun(sh('echo here'), { env: { TSVM_TEMPLATE_DIR: mount } });
      expect(result).toMatchObject({ status: 0, stderr: '' });
      const other = await tsvmRun(['--memory', '65M', ...sh('echo here')], {
        env: { TSVM_TEMPLATE_DIR: mount },
      });
      expect(other).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/cannot keep templates in .*read-only\nhint: .*--no-template/),
      });
    } finally {
      await run('umount', [mount]);
    }
  });

  test('is waited for no longer than --timeout, or until a signal', async () => {
    const other = mkdtempSync(join(root, 'waited-'));
    let booting: ChildProcess | undefined;
    let said = '';
    const first = tsvmRun(sh('echo first'), {
      env: { TSVM_TEMPLATE_DIR: other },
      onStart: (child) => {
        booting = child;
        child.stderr?.on('data', (bytes: Buffer) => {
          said += bytes.toString();
        });
      },
    });
    first.catch(() => {});
    await expect.poll(() => said, { timeout: 60_000, interval: 5 }).toContain('booting a template');
    // Where a process takes as long to start as a machine to boot, it would be done before the others ask.
    booting?.kill('SIGSTOP');
    const results = await Promise.all([
      tsvmRun(['--timeout', '1s', ...sh('echo second')], { env: { TSVM_TEMPLATE_DIR: other } }),
      tsvmRun(sh('echo third'), {
        env: { TSVM_TEMPLATE_DIR: other },
        onStart: (child) =>
          child.stderr?.on('data', (bytes: Buffer) => {
            if (bytes.includes('waiting for another process')) child.kill('SIGINT');
          }),
      }),
    ]);
    expect(results[0]).toMatchObject({
      status: 124,
      stderr: expect.stringMatching(/the machine was ended after 1s/),
    });
    expect(results[1]).toMatchObject({ status: 130 });
    // Whoever boots it may be killed as well: nothing is left running, and nobody waits for the dead.
    booting!.kill('SIGKILL');
    const killed = await first;
    expect(killed.stderr).toBe('tsvm: booting a template for this configuration, once\n');
    expect(killed).toMatchObject({ signal: 'SIGKILL' });
    expect(keys(other).filter((key) => existsSync(join(other, key, 'machine.json')))).toEqual([]);
    expect(await processesWith(other)).toEqual([]);
  });

  test('that is damaged is replaced', async () => {
    const other = join(root, 'damaged');
    await run('cp', ['-r', templates, other]);
    const memory = memoryFile(join(other, keys(other)[0]!));
    const content = readFileSync(memory);
    content[content.findIndex((byte) => byte !== 0)]! ^= 1;
    writeFileSync(memory, content);
    const result = await tsvmRun(sh('echo new'), { env: { TSVM_TEMPLATE_DIR: other } });
    expect(result.stdout.toString()).toBe('new\n');
    expect(result.stderr).toMatch(/booting a template/);
    expect(existsSync(memory)).toBe(false);
    const again = await tsvmRun(sh('echo again'), { env: { TSVM_TEMPLATE_DIR: other } });
    expect(again).toMatchObject({ status: 0, stderr: '' });
    const removed = await tsvm(['template', 'rm', ...keys(other)], { env: { TSVM_TEMPLATE_DIR: other } });
    expect(removed).toMatchObject({ status: 0, stderr: '' });
    expect(readdirSync(other)).toEqual([]);
  });

  test('may be copied: it is checked, and used', async () => {
    const other = join(root, 'copied');
    await run('cp', ['-r', templates, other]);
    const result = await tsvmRun(sh('echo copy'), { env: { TSVM_TEMPLATE_DIR: other } });
    expect(result).toMatchObject({ status: 0, stderr: '' });
  });
});

/** Command lines of processes with this folder in their environment, but for ours. */
async function processesWith(text: string): Promise<string[]> {
  await sleep(200);
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .flatMap((pid) => {
      try {
        const found = readFileSync(`/proc/${pid}/environ`, 'latin1').includes(text);
        return found ? [readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')] : [];
      } catch {
        return [];
      }
    });
}

test('SIGKILL of tsvm run leaves no process and no file', async () => {
  const before = readdirSync(templates).sort();
  const mark = `mark${process.pid}`;
  const result = await tsvmRun(sh('echo up; sleep 100'), {
    env: { MARK: mark },
    onOutput: (_text, child) => child.kill('SIGKILL'),
  });
  expect(result.signal).toBe('SIGKILL');
  expect(await processesWith(mark)).toEqual([]);
  expect(readdirSync(templates).sort()).toEqual(before);
});

test('--no-template boots, keeps nothing, and is the same otherwise', async () => {
  const other = join(root, 'none');
  const result = await tsvmRun(['--no-template', ...sh('echo out; echo err >&2; exit 4')], {
    env: { TSVM_TEMPLATE_DIR: other },
  });
  expect(result).toMatchObject({ status: 4, stderr: 'err\n' });
  expect(result.stdout.toString()).toBe('out\n');
  expect(existsSync(other)).toBe(false);
});
