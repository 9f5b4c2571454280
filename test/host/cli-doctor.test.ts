import { describe, expect, test } from 'vitest';
import { NEEDS } from '../../src/cli/doctor/needs.js';
import { KVM_CAUSE_IDS } from '../../src/host/kvm/causes.js';
import { HOST_CHECKS } from '../../src/host/production/host-checks.js';
import { packageFile } from '../../src/util/package-file.js';
import { BARE_DEV, run, TSVM } from '../support/cli.js';
import { tsvmHere } from '../support/cli-here.js';
import { notRoot } from '../support/skip-reasons.js';

test('tsvm doctor --production names every check, and its exit status says whether all passed', async () => {
  const { status, stdout, stderr } = await tsvmHere(['doctor', '--production', '--json']);
  const { solid, checks } = JSON.parse(stdout.toString()) as {
    solid: boolean;
    checks: { id: string; status: string }[];
  };
  expect(stderr).toBe('');
  expect(checks.map(({ id }) => id)).toEqual(HOST_CHECKS.map(({ id }) => id));
  expect(solid).toBe(checks.every((check) => check.status === 'holds'));
  expect(status).toBe(solid ? 0 : 1);

  const text = (await tsvmHere(['doctor', '--production'])).stdout.toString();
  for (const { id } of checks) expect(text).toMatch(new RegExp(`^(ok  |WEAK|\\?   )  ${id} `, 'm'));
});

describe('tsvm doctor', () => {
  interface Said {
    readonly usable: boolean;
    readonly containers: boolean;
    readonly profile?: string;
    readonly checks: readonly {
      area: string;
      name: string;
      status: string;
      detail: string;
      cause?: string;
      fix?: string;
    }[];
  }

  test('says the same to people and to programs; its exit status is whether machines can be made', async () => {
    const { status, stdout } = await tsvmHere(['doctor', '--json']);
    const { usable, containers, checks } = JSON.parse(stdout.toString()) as Said;
    expect(status).toBe(usable ? 0 : 1);
    const failed = checks.filter((check) => check.status === 'no').map(({ area }) => area);
    expect(usable).toBe(!failed.includes('machines'));
    expect(containers).toBe(!failed.includes('containers'));
    const text = (await tsvmHere(['doctor'])).stdout.toString();
    for (const { name } of checks) expect(text).toMatch(new RegExp(`^  (ok  |FAIL|note)  ${name} `, 'm'));
  });

  test('without a KVM names one cause and its remedy, speaks of no profile, and looks at the rest', async ({
    skip,
  }) => {
    skip(notRoot() !== undefined, notRoot());
    const bare = `${BARE_DEV} && exec "$@"`;
    const addon = packageFile('kvm-addon/build/Release/kvm_addon.node');
    const doctor = (...args: string[]) =>
      run('unshare', ['-m', 'bash', '-c', bare, 'bash', process.execPath, TSVM, 'doctor', ...args]);
    const json = await doctor('--json');
    const { usable, checks } = JSON.parse(json.stdout.toString()) as Said;
    expect([json.status, usable]).toEqual([1, false]);
    const machines = checks.filter(({ area, status }) => area === 'machines' && status === 'no');
    expect(machines.map(({ name }) => name)).toEqual(['kvm']);
    const kvm = checks.find(({ name }) => name === 'kvm');
    expect(KVM_CAUSE_IDS).toContain(kvm?.cause);
    expect(kvm?.fix).not.toBe('');
    expect(checks.map(({ name }) => name)).toEqual(expect.arrayContaining(NEEDS.map(({ name }) => name)));
    expect(json.stdout.toString()).not.toMatch(/profile|kvm_pvm/);
    const text = (await doctor()).stdout.toString();
    expect(text).toContain(`cannot open /dev/kvm: `);
    expect(text).not.toMatch(/profile|kvm_pvm/);

    // Two things to mend are told at once.
    const both = await run('unshare', [
      ...['-m', 'bash', '-c', `mount --bind /dev/null ${addon} && ${bare}`, 'bash'],
      ...[process.execPath, TSVM, 'doctor'],
    ]);
    expect(both.stdout.toString()).toMatch(/FAIL {2}addon .*\n.*\n {2}FAIL {2}kvm .*cannot open/);
  });
});
