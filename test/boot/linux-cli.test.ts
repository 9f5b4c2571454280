/** `tsvm boot` with the default guest, as a user types it. */
import { createHash } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findGuest } from '../../src/index.js';
import { type CliOptions, run, TSVM, tsvm } from '../support/cli.js';
import { interpreted, temporaryDirectory } from '../support/guest.js';

const directory = temporaryDirectory();

/** `tsvm boot` in little memory. */
const boot = (args: readonly string[], options?: CliOptions) =>
  tsvm(['boot', '--memory', '64M', ...args], options);

/**
 * Every byte but Ctrl-D, which is the end of input to a guest's console; in lines of less than 4096, which a console keeps;
 * the last without its end.
 */
function binaryInput(bytes: number): Buffer {
  const input = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) {
    const byte = createHash('sha256').update(`${i}`).digest()[0] ?? 0;
    input[i] = byte === 4 ? 5 : byte;
  }
  input[bytes - 1] = 0xff;
  return input;
}

describe('tsvm boot -- COMMAND', () => {
  test('pipes stdin and stdout byte for byte, and exits with the status of the command', async () => {
    const input = binaryInput(6000);
    const timelinePath = join(directory, 'timeline.json');
    const args = ['--timeline', timelinePath, '--', 'sh', '-c', 'cat; exit 42'];
    const result = await boot(args, { input });
    expect(result.stderr).toBe('');
    expect(result.stdout.equals(input), result.stdout.toString('latin1')).toBe(true);
    expect(result.status).toBe(42);

    const timeline = JSON.parse(readFileSync(timelinePath, 'utf8'));
    expect(timeline).toMatchObject({
      profile: interpreted ? 'pvm' : 'none',
      phases: ['create', 'files-read', 'vm-created', 'guest-loaded', 'start', 'init', 'command', 'end'].map(
        (name) => ({ name, ms: expect.any(Number) }),
      ),
      exits: {
        total: expect.any(Number),
        toJavaScript: expect.any(Number),
        byHostProfile: expect.any(Number),
        servedNatively: { load: expect.any(Number), clearBits: 0, stream: expect.any(Number) },
        byReason: { io: expect.any(Number) },
      },
      kvmStats: { exits: expect.any(Number) },
    });
    const init = timeline.phases.find(({ name }: { name: string }) => name === 'init');
    expect(init.insnEmulation).toBeTypeOf('number');
    expect(timeline.insnEmulation).toBeGreaterThan(interpreted ? 1_000_000 : 0);
    expect(timeline.exits.servedNatively.stream).toBeGreaterThanOrEqual(input.length);
  });

  test('with a root disk runs in it, and what it writes is in the image', async () => {
    const guest = await findGuest();
    const disk = join(directory, 'root.ext4');
    copyFileSync(guest.build.rootfs!, disk);
    const script =
      'cat /etc/hostname; grep -c "^/dev/root\\|^/dev/vda / ext4" /proc/mounts; echo kept > /root/file';
    const result = await boot(['--disk', disk, '--append', 'root=/dev/vda', '--', 'sh', '-c', script]);
    expect(result).toMatchObject({ status: 0, stderr: '' });
    expect(result.stdout.toString()).toBe('tsvm\n1\n');
    const file = await run('debugfs', ['-R', 'cat /root/file', disk]);
    expect(file.stdout.toString()).toBe('kept\n');
    const check = await run('e2fsck', ['-fn', disk]);
    expect(check.status, check.stdout.toString()).toBe(0);
  });
});

describe('a guest that reboots', () => {
  test('starts again with --reboot, with its disk as it left it; then its status counts', async () => {
    const disk = join(directory, 'disk');
    writeFileSync(disk, Buffer.from('0'.repeat(4096)));
    const script = [
      'was=$(head -c 1 /dev/vda); echo boot $was',
      '[ $was = 1 ] && exit 9',
      'printf 1 | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null; reboot -f',
    ].join('\n');
    const result = await boot(['--reboot', '--disk', disk, '--', 'sh', '-c', script]);
    expect(result).toMatchObject({ status: 9, stderr: '' });
    expect(result.stdout.toString()).toBe('boot 0\nreboot: Restarting system\r\nboot 1\n');
  });
});

describe('a guest whose kernel', () => {
  test('panics ends with 121, and its last words are there', async () => {
    const result = await boot(['--initrd', 'none']);
    expect(result.status).toBe(121);
    expect(result.stdout.toString()).toMatch(/Kernel panic - not syncing: .*init/);
    expect(result.stderr).toMatch(/^tsvm: the guest's kernel panicked: Kernel panic - not syncing: .*\n$/);
  });

  test('takes too long ends with 124', async () => {
    const early = await boot(['--timeout', '1s', '--', 'true']);
    expect(early).toMatchObject({
      status: 124,
      stderr: 'tsvm: the machine was ended after 1s, as --timeout asks\n',
    });
  });
});

// biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal is sent
const CONTROL_SEQUENCE = /\x1b\[[0-9;]*[A-Za-z]/g;

describe('on a terminal, tsvm boot', () => {
  test('is a shell with a prompt, echo, job control and the size of the terminal; its status is the exit status', async () => {
    const settings = `stty -a | tr '\\n' ' ' | md5sum`;
    const script = [
      'stty rows 33 columns 101',
      `before=$(${settings})`,
      '$tsvm boot --memory 64M',
      'status=$?',
      `[ "$(${settings})" = "$before" ] && echo "restored $status"`,
    ].join('; ');
    // Each answer waits for what is shown; the commands are written so that their echo does not look like their output.
    const talk: [waitFor: RegExp, type: string][] = [
      [/# $/, 'echo $((6 * 7))-answer\r'],
      [/42-answer\r\n.*# $/, 'stty size\r'],
      [/33 101\r\n.*# $/, "sh -c 'echo started; exec sleep 1000'\r"],
      [/\r\nstarted\r\n$/, '\x03'],
      [/\^C[^#]*# $/, 'exit 7\r'],
    ];
    let from = 0;
    const result = await run('script', ['-qec', script, '/dev/null'], {
      env: { tsvm: `node ${TSVM}`, SHELL: '/bin/bash', TERM: 'vt100' },
      onOutput: (raw, child) => {
        const text = raw.replaceAll(CONTROL_SEQUENCE, '');
        const [step] = talk;
        if (step === undefined || !step[0].test(text.slice(from))) return;
        from = text.length;
        child.stdin?.write(step[1]);
        talk.shift();
      },
    });
    const shown = result.stdout.toString();
    expect(talk, shown).toEqual([]);
    expect(shown).toContain('restored 7');
  });
});
