/** The rig does what its README.md says. A start takes seconds, so one of them answers most questions. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type CliOptions, type CliResult, run } from '../support/cli.js';

const TIMEOUT_SECONDS = 100;
const COPIED_BYTES = 3_000_000;

const rig = (args: readonly string[], options: CliOptions = {}): Promise<CliResult> =>
  run(join(import.meta.dirname, 'rig'), args, { timeoutMs: TIMEOUT_SECONDS * 1000, ...options });
const inRig = (script: string, options: CliOptions = {}, ...more: string[]): Promise<CliResult> =>
  rig(['--timeout', String(TIMEOUT_SECONDS), ...more, 'bash', '-c', script], options);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe.concurrent('the rig', () => {
  test('has a KVM on SVM, cgroups, tun and fuse; hands on all that a command has, and keeps what is written to --out', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'rig-test-'));
    const bytes = readFileSync(process.execPath).subarray(0, COPIED_BYTES);
    try {
      const script = `
        printf '%s\n' "$PWD$TSVM_RIG_TEST"
        nproc
        test -c /dev/kvm && test -c /dev/net/tun && test -c /dev/fuse && echo devices
        cat /sys/module/kvm_amd/parameters/{nested,npt}
        cat /sys/fs/cgroup/cgroup.subtree_control
        echo to stderr >&2
        echo x > made-in-the-rig && echo x > /tmp/made-in-the-rig
        tee ${directory}/copy
        exit 7`;
      const env = { TSVM_RIG_TEST: "it's \n set" };
      const result = await inRig(script, { input: bytes, env }, '--out', directory);
      const said = `${process.cwd()}it's \n set\n1\ndevices\n1\nY\ncpuset cpu io memory hugetlb pids rdma misc\n`;
      expect(result.stdout.subarray(0, said.length).toString()).toBe(said);
      expect(sha256(result.stdout.subarray(said.length))).toBe(sha256(bytes));
      expect(sha256(readFileSync(join(directory, 'copy')))).toBe(sha256(bytes));
      expect(result.stderr).toMatch(/to stderr\n$/);
      expect(result.status).toBe(7);
      for (const name of ['made-in-the-rig', '/tmp/made-in-the-rig'])
        expect(() => readFileSync(name)).toThrow('ENOENT');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('is told the frequency of its time stamp counter, and finds by its other timer that it is right', async () => {
    const { stdout } = await inRig(`
      for _ in {1..60}; do dmesg | grep -q 'tsc: Refined' && break; sleep 1; done
      grep -o 'tsc_early_khz=[0-9]*' /proc/cmdline
      dmesg | grep -oE 'tsc: Refined[a-zA-Z :]*[0-9.]*'`);
    const [toldKhz, refinedMhz] = [...stdout.toString().matchAll(/[\d.]+$/gm)].map(Number);
    // Linux keeps its refined value only where it is within a hundredth of what it was told.
    expect((refinedMhz! * 1000) / toldKhz!).toBeCloseTo(1, 2);
  });

  test('with several CPUs has them all, and no input where there is none', async () => {
    const { stdout } = await inRig('nproc; cat', {}, '--cpus', '2');
    expect(stdout.toString()).toBe('2\n');
  });

  test('reports a missing command with 127', async () => {
    const { status, stderr } = await rig(['--timeout', String(TIMEOUT_SECONDS), 'no-such-command']);
    expect([status, stderr]).toEqual([127, expect.stringContaining('no-such-command')]);
  });

  test('reports its own failure with 125', async () => {
    expect((await inRig('echo c >/proc/sysrq-trigger')).status).toBe(125);
    expect((await rig(['--no-such-option'])).status).toBe(125);
  });

  test('goes on when the emulator loses the interrupt of its CPU’s timer', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'rig-test-'));
    try {
      const program = join(directory, 'lost-interrupt');
      await run('cc', ['-O2', '-o', program, join(import.meta.dirname, 'lost-interrupt.c')]);
      const { stdout, stderr } = await inRig(`${program} 30`);
      expect(Number(stdout.toString()), stderr).toBeGreaterThan(0);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('that stands still is ended, and says where its CPU was', async () => {
    const stop = `for at in /proc/[0-9]*; do
        if [ "$(tr '\\0' ' ' <$at/cmdline)" = '/run/init/busybox sleep 5 ' ]; then kill -STOP "$(cut -d ' ' -f 4 $at/stat)"; fi
      done; sleep ${TIMEOUT_SECONDS}`;
    const { status, stderr } = await inRig(stop, { env: { TSVM_RIG_STILL_SECONDS: '20' } });
    expect([status, stderr]).toEqual([125, expect.stringMatching(/^RIP=[\s\S]*it hung, and was ended/m)]);
  });

  test('reports a timeout with 124', async () => {
    expect((await rig(['--timeout', '1', 'true'])).status).toBe(124);
  });
});
