import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

function rig(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(join(import.meta.dirname, 'rig'), args, { encoding: 'utf8' });
}

function inRig(script: string, ...options: string[]): SpawnSyncReturns<string> {
  return rig('--timeout', '100', ...options, 'bash', '-c', script);
}

test('the rig has a /dev/kvm by kvm-amd with nested paging, every cgroup v2 controller, tun and fuse', () => {
  const { stdout } = inRig(`
    test -c /dev/kvm && test -c /dev/net/tun && test -c /dev/fuse && echo devices
    cat /sys/module/kvm_amd/parameters/{nested,npt}
    cat /sys/fs/cgroup/cgroup.subtree_control`);
  expect(stdout).toBe('devices\n1\nY\ncpuset cpu io memory hugetlb pids rdma misc\n');
});

test("the rig's kernel is told the frequency of its time stamp counter, and finds by its other timer that it is right", () => {
  const { stdout } = inRig(`
    for _ in {1..60}; do dmesg | grep -q 'tsc: Refined' && break; sleep 1; done
    grep -o 'tsc_early_khz=[0-9]*' /proc/cmdline
    dmesg | grep -oE 'tsc: (Detected|Refined)[a-zA-Z :]*[0-9.]*'`);
  const [told, detected, refined] = [...stdout.matchAll(/[\d.]+$/gm)].map(Number);
  expect(detected! * 1000).toBeCloseTo(told!, 0);
  expect(refined! / detected!).toBeCloseTo(1, 3);
});

test('the rig hands on arguments, directory, streams and status, and its writes are thrown away', () => {
  process.env['TSVM_RIG_TEST'] = "it's \n set";
  const result = inRig(`
    printf %s "$PWD$TSVM_RIG_TEST"
    echo to stderr >&2
    echo x > made-in-the-rig && echo x > /tmp/made-in-the-rig
    exit 7`);
  expect(result).toMatchObject({
    stdout: `${process.cwd()}it's \n set`,
    stderr: expect.stringMatching(/to stderr\n$/),
    status: 7,
  });
  expect(() => readFileSync('made-in-the-rig')).toThrow('ENOENT');
  expect(() => readFileSync('/tmp/made-in-the-rig')).toThrow('ENOENT');
});

test('the rig passes output on byte for byte, and keeps what is written to --out', () => {
  const directory = mkdtempSync(join(tmpdir(), 'rig-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const file = process.execPath;
  const script = `head -c 3000000 ${file} | tee ${directory}/copy`;
  const result = spawnSync(
    join(import.meta.dirname, 'rig'),
    ['--timeout', '100', '--out', directory, 'bash', '-c', script],
    { maxBuffer: 8e6 },
  );
  const expected = readFileSync(file).subarray(0, 3_000_000);
  expect(result.stdout.equals(expected)).toBe(true);
  expect(readFileSync(join(directory, 'copy')).equals(expected)).toBe(true);
});

test('the rig reports a timeout with 124, a missing command with 127, and its own failure with 125', () => {
  expect(rig('--timeout', '1', 'true').status).toBe(124);
  expect(rig('--timeout', '100', 'no-such-command').status).toBe(127);
  expect(inRig('echo c >/proc/sysrq-trigger').status).toBe(125);
  expect(rig('--no-such-option').status).toBe(125);
});
