/** What a container's plan has in it, and what a flag takes out. */
import { describe, expect, test } from 'vitest';
import { composePlan, type PlanHost } from '../../../src/container/compose.js';
import type { ContainerConfig } from '../../../src/container/config.js';
import { CLONE } from '../../../src/container/linux.js';
import { encodePlan, type Plan } from '../../../src/container/plan.js';

const HOST: PlanHost = {
  superuser: true,
  capabilities: (1n << 41n) - 1n,
  place: '/place',
  cgroups: ['/sys/fs/cgroup/x'],
  unified: true,
  terminalGroup: true,
  copied: false,
  isDirectory: () => true,
};
const CONFIG: ContainerConfig = { layers: ['/low', '/high'], argv: ['true'] };

const plan = (config: Partial<ContainerConfig> = {}, host: Partial<PlanHost> = {}): Plan =>
  composePlan({ ...CONFIG, ...config }, { ...HOST, ...host });
const purposes = ({ host, init, command }: Plan): string =>
  [...host, ...init, ...command].map(({ purpose }) => purpose).join('\n');
const optionsOfOverlay = ({ host, init }: Plan): unknown =>
  [...host, ...init].find(({ purpose }) => purpose.startsWith('mount an overlay'))?.arguments[4];

describe('composePlan()', () => {
  test('makes every namespace but those that are shared', () => {
    const all = CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWUSER;
    expect(plan().cloneFlags).toBe(all);
    expect(plan({ share: ['net', 'user'] }).cloneFlags).toBe(all & ~(CLONE.NEWNET | CLONE.NEWUSER));
    expect(purposes(plan({ share: ['cgroup', 'uts', 'net'] }))).not.toMatch(
      /cgroup namespace|host name|loopback/,
    );
  });

  test('mounts the lowest layer last in its list, with the superuser’s privileges where there are some', () => {
    expect(optionsOfOverlay(plan())).toBe('lowerdir=1:0,upperdir=./upper,workdir=./work');
    expect(plan().host.length).toBeGreaterThan(0);
    const own = plan({ upper: '/kept' }, { superuser: false });
    expect(optionsOfOverlay(own)).toBe('lowerdir=1:0,upperdir=kept/upper,workdir=kept/work,userxattr');
    expect(own.host).toEqual([]);
  });

  test('names nothing of the host once the root is changed', () => {
    const { init } = plan({ volumes: [{ source: '/secret', target: '/data' }] });
    const changed = init.findIndex(({ purpose }) => purpose === 'change the root');
    expect(init.slice(0, changed).some((step) => step.arguments.includes('/secret'))).toBe(true);
    expect(init.slice(changed).some((step) => step.arguments.includes('/secret'))).toBe(false);
  });

  test('filters last, but for the command', () => {
    const names = plan().command.map(({ purpose }) => purpose);
    const filter = names.indexOf('install the filter');
    expect(new Set(names.slice(filter + 1))).toEqual(new Set(['execute the command']));
  });

  test('masks and filters nothing for the privileged', () => {
    expect(purposes(plan())).toMatch(/bind \/dev\/null to \/proc\/kcore\n(.*\n)*install the filter/);
    expect(purposes(plan({ privileged: true }))).not.toMatch(/kcore|filter|drop/);
  });

  test('gives a command in the host’s user namespace no capability that this process lacks', () => {
    const dropped = purposes(plan({ share: ['user'] }, { capabilities: 1n }));
    expect(dropped).toContain('drop DAC_OVERRIDE');
    expect(dropped).not.toContain('drop CHOWN');
  });

  test('looks a command up along its PATH, and takes a path as it is', () => {
    const paths = (argv: string[]): unknown[] =>
      plan({ argv, env: { PATH: '/a:/b' } })
        .command.filter(({ purpose }) => purpose === 'execute the command')
        .map((step) => step.arguments[0]);
    expect(paths(['x'])).toEqual(['/a/x', '/b/x']);
    expect(paths(['./x'])).toEqual(['./x']);
  });

  test('fits the launcher, with 500 layers and many volumes', () => {
    const layers = Array.from({ length: 500 }, (_, i) => `/layers/${i}`);
    const volumes = Array.from({ length: 40 }, (_, i) => ({ source: `/v/${i}`, target: `/v/${i}` }));
    const made = plan({ layers, volumes });
    expect(String(optionsOfOverlay(made)).length).toBeLessThan(4096);
    expect(encodePlan(made).length).toBeLessThan(16 << 20);
  });
});
