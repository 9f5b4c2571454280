/** Ends of `tsvm boot`, over kernels of a few instructions: exit status, messages, the terminal. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { run, TSVM, tsvm } from '../support/cli.js';
import { temporaryDirectory } from '../support/guest.js';
import { addrOf, asm64, tiny, tinyKernel } from '../support/tiny-kernel.js';

const directory = temporaryDirectory();
const hello = tiny.print('hello\n');

function kernel(name: string, ...code: readonly (readonly number[])[]): string[] {
  const path = join(directory, name);
  writeFileSync(path, tinyKernel(code.flat()));
  return ['--kernel', path, '--memory', '4M'];
}

describe('tsvm boot exits with', () => {
  const ends: readonly {
    readonly name: string;
    readonly code: readonly number[];
    readonly status: number;
    readonly stdout?: string;
    readonly stderr: string;
  }[] = [
    { name: '0 after a power-off', code: tiny.powerOff(), status: 0, stderr: '' },
    {
      name: 'the status of the guest',
      code: [...tiny.exitStatus(7), ...tiny.powerOff()],
      status: 7,
      stderr: '',
    },
    {
      name: '121 after a panic, whose line it repeats',
      code: [...tiny.print('Kernel panic - not syncing: it hurts\r\n'), ...tiny.reset()],
      status: 121,
      stdout: 'Kernel panic - not syncing: it hurts\r\n',
      stderr: "tsvm: the guest's kernel panicked: Kernel panic - not syncing: it hurts\n",
    },
    {
      name: '122 after a triple fault',
      code: [...hello, ...tiny.tripleFault()],
      status: 122,
      stdout: 'hello\n',
      stderr: 'tsvm: the guest crashed with a triple fault\n',
    },
    {
      name: '123 after a reset',
      code: [...hello, ...tiny.reset()],
      status: 123,
      stdout: 'hello\n',
      stderr: '',
    },
  ];
  test.each(ends)('$name', async ({ code, status, stdout = '', stderr }) => {
    const result = await tsvm(['boot', ...kernel('end', code)]);
    expect({ status: result.status, stdout: result.stdout.toString(), stderr: result.stderr }).toEqual({
      status,
      stdout,
      stderr,
    });
  });

  test('124 promptly at --timeout, having passed on what was printed', async () => {
    const result = await tsvm(['boot', ...kernel('spin', hello, tiny.spin()), '--timeout', '300ms']);
    expect(result).toMatchObject({
      status: 124,
      stderr: 'tsvm: the machine was ended after 300ms, as --timeout asks\n',
    });
    expect(result.stdout.toString()).toBe('hello\n');
    expect(result.ms).toBeLessThan(20_000);
  });

  test('124 at --timeout although its guest sleeps for good', async () => {
    const result = await tsvm(['boot', ...kernel('sleep', tiny.sleep()), '--timeout', '0.3']);
    expect(result.status).toBe(124);
  });

  test.each([
    ['143 at SIGTERM', 'SIGTERM', 143],
    ['130 at SIGINT', 'SIGINT', 130],
    ['143 at SIGHUP', 'SIGHUP', 143],
  ] as const)('%s', async (_name, signal, status) => {
    const result = await tsvm(['boot', ...kernel('sleep', hello, tiny.sleep())], {
      onOutput: (_text, child) => child.kill(signal),
    });
    expect(result).toMatchObject({ status, signal: null, stderr: '' });
  });

  test('the last end with --reboot, after several boots', async () => {
    let boots = 0;
    const result = await tsvm(
      ['boot', ...kernel('reset', hello, tiny.reset()), '--reboot', '--timeout', '60s'],
      {
        onOutput: (text, child) => {
          boots = text.split('hello\n').length - 1;
          if (boots >= 3) child.kill('SIGTERM');
        },
      },
    );
    expect(boots).toBeGreaterThanOrEqual(3);
    expect(result.stderr).toBe('');
    // Wherever between two boots the signal comes.
    expect(result.status).toBe(143);
  });

  test('124 at --timeout when every boot is shorter than that', async () => {
    const result = await tsvm(['boot', ...kernel('reset', tiny.reset()), '--reboot', '--timeout', '1s']);
    expect(result.status).toBe(124);
  });
});

describe('tsvm boot', () => {
  test('--timeline writes phases, exits by kind and what reached JavaScript', async () => {
    const path = join(directory, 'timeline.json');
    const code = [tiny.mark(1), hello, tiny.mark(2), tiny.powerOff()];
    expect(await tsvm(['boot', ...kernel('marks', ...code), '--timeline', path])).toMatchObject({
      status: 0,
    });
    const timeline = JSON.parse(readFileSync(path, 'utf8'));
    expect(timeline).toMatchObject({
      profile: expect.stringMatching(/^(none|pvm)$/),
      phases: ['create', 'files-read', 'vm-created', 'guest-loaded', 'start', 'init', 'command', 'end'].map(
        (name) => ({
          name,
          ms: expect.any(Number),
        }),
      ),
      exits: {
        total: expect.any(Number),
        toJavaScript: expect.any(Number),
        byHostProfile: expect.any(Number),
        servedNatively: { load: 0, clearBits: 0, stream: 6 },
        byReason: { io: 9 },
      },
    });
    expect(timeline.exits.toJavaScript - timeline.exits.byHostProfile).toBe(3);
    // From the start of the process, so Node's own start is in it.
    expect(timeline.phases[0].ms).toBeGreaterThan(5);
  });

  test('--timeline that cannot be written is one line of error and one of hint', async () => {
    const path = join(directory, 'no/such/directory.json');
    const result = await tsvm(['boot', ...kernel('off', tiny.powerOff()), '--timeline', path]);
    expect(result.stderr).toBe(
      `tsvm: cannot write the timeline to ${path}: no such file\nhint: check the path\n`,
    );
    expect(result.status).toBe(2);
  });

  test('prints nothing of its own on stdout, and passes every byte on as it is', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('latin1');
    const result = await tsvm(['boot', ...kernel('bytes', tiny.print(bytes), tiny.powerOff())]);
    expect(result.stdout.toString('latin1')).toBe(bytes);
    expect(result.stderr).toBe('');
  });

  test('ends when the reader of its output has gone', async () => {
    const flood = [...hello, 0xeb, 256 - hello.length - 2];
    const boot = ['node', TSVM, 'boot', ...kernel('flood', flood)].join(' ');
    const result = await run('bash', ['-c', `set -o pipefail; ${boot} | head -c 100 | wc -c`]);
    expect(result.stdout.toString()).toBe('100\n');
    expect(result.stderr).toBe('');
  });

  test('waits for a slow reader, and loses nothing', async () => {
    const text = 'The quick brown fox jumps over the lazy dog.\n'.repeat(50);
    const boot = ['node', TSVM, 'boot', ...kernel('text', tiny.print(text), tiny.powerOff())].join(' ');
    const result = await run('bash', ['-c', `set -o pipefail; ${boot} | (sleep 1; cat)`]);
    expect(result.stdout.toString()).toBe(text);
    expect(result.status).toBe(0);
  });

  test('waits no longer than --timeout for a reader that has stopped reading', async () => {
    // More than a FIFO takes, of the guest's memory.
    const wordy = [
      ...asm64.movEdx(0x3f8),
      ...asm64.movEsi(addrOf(0)),
      ...asm64.movEcx(96 * 1024),
      ...asm64.repOutsb(),
    ];
    const boot = ['node', TSVM, 'boot', ...kernel('wordy', wordy, tiny.powerOff())].join(' ');
    const script = 'mkfifo "$0" && exec 3<>"$0" && $1 --timeout 4s > "$0"; echo $?';
    const result = await run('bash', ['-c', script, join(directory, 'fifo'), boot]);
    expect(result.stdout.toString()).toBe('124\n');
    expect(result.stderr).toBe('tsvm: the machine was ended after 4s, as --timeout asks\n');
  });
});

describe('on a terminal, tsvm boot', () => {
  /** Runs the script on a pseudo-terminal of its own; `$tsvm` is the command. */
  function onTerminal(script: string, onOutput: (text: string, type: (keys: string) => void) => void) {
    return run('script', ['-qec', script, '/dev/null'], {
      env: { tsvm: `node ${TSVM}`, SHELL: '/bin/bash' },
      onOutput: (text, child) => onOutput(text, (keys) => child.stdin?.write(keys)),
    });
  }
  const settings = `stty -a | tr '\\n' ' ' | md5sum`;
  const bracketed = (command: string) =>
    `before=$(${settings}); ${command}; status=$?; [ "$(${settings})" = "$before" ] && echo "restored $status"`;

  test('Ctrl-A x ends the machine with 130; the terminal was raw and is restored', async () => {
    let typed = false;
    const boot = `$tsvm boot ${kernel('hello', hello, tiny.sleep()).join(' ')}`;
    const result = await onTerminal(bracketed(boot), (text, type) => {
      if (typed || !text.includes('hello')) return;
      typed = true;
      type('\x03\x01x'); // a raw terminal makes no signal of Ctrl-C: it goes to the guest
    });
    expect(result.stdout.toString()).toContain('restored 130');
    expect(result.stdout.toString()).toContain('hello\n'); // not '\r\n': the guest's bytes, unchanged
  });

  test('Ctrl-A h shows the keys and Ctrl-A Ctrl-A is for the guest', async () => {
    let typed = false;
    const boot = `$tsvm boot ${kernel('hello', hello, tiny.sleep()).join(' ')}`;
    const result = await onTerminal(bracketed(boot), (text, type) => {
      if (!typed && text.includes('hello')) {
        typed = true;
        type('\x01h\x01\x01x');
      }
      if (text.includes('send Ctrl-A to the guest')) type('\x01X');
    });
    expect(result.stdout.toString()).toContain('Ctrl-A x  end the machine');
    expect(result.stdout.toString()).toContain('restored 130');
  });

  test.each([
    ['SIGTERM', 143],
    ['SIGHUP', 143],
  ])('%s restores the terminal, and exits with %d', async (signal, status) => {
    const boot = `$tsvm boot ${kernel('hello', hello, tiny.sleep()).join(' ')}`;
    let killed = false;
    const result = await onTerminal(`echo $$ > ${directory}/shell; ${bracketed(boot)}`, (text) => {
      if (killed || !text.includes('hello')) return;
      killed = true;
      const shell = readFileSync(join(directory, 'shell'), 'utf8').trim();
      const child = readFileSync(`/proc/${shell}/task/${shell}/children`, 'utf8').trim().split(' ')[0];
      process.kill(Number(child), signal);
    });
    expect(result.stdout.toString()).toContain(`restored ${status}`);
  });

  test('a guest that powers off restores the terminal', async () => {
    const boot = `$tsvm boot ${kernel('off', hello, tiny.exitStatus(3), tiny.powerOff()).join(' ')}`;
    const result = await onTerminal(bracketed(boot), () => {});
    expect(result.stdout.toString()).toContain('restored 3');
  });
});
