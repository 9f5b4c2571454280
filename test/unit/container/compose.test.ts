/** Contents of a container's plan, and what a flag takes out. */
import { describe, expect, test } from 'vitest';
import { CAPABILITIES } from '../../../src/container/capabilities.js';
import { composePlan, type PlanHost } from '../../../src/container/compose.js';
import type { ContainerConfig } from '../../../src/container/config.js';
import { AT_FDCWD, CLONE, SYS } from '../../../src/container/linux.js';
import {
  Data,
  encodePlan,
  InnerPath,
  type Plan,
  Slot,
  STEP_PATH,
  type Step,
} from '../../../src/container/plan.js';

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
/** Texts of a step besides a path that it resolves. */
const textsOf = ({ arguments: values }: Step): string[] =>
  values.flatMap((value) =>
    typeof value === 'string' ? value : value instanceof Data ? bytesOf(value) : [],
  );
const bytesOf = (data: Data): string[] => [
  Buffer.from(data.bytes).toString('latin1'),
  ...data.pointers.flatMap(([, to]) => bytesOf(to)),
];
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

  test.each([{}, { superuser: false }, { copied: true }])(
    'gives no system call a path of an image, a volume or the command (%j)',
    (facts) => {
      const config: Partial<ContainerConfig> = {
        volumes: [
          { source: '/low', target: '/INNER/a' },
          { source: '/high', target: '/INNER/b', readOnly: true },
        ],
        cwd: '/INNER/c',
        makeCwd: true,
        network: 'user',
        readOnly: true,
        terminal: { rows: 1, columns: 1 },
      };
      const variants = [{}, { privileged: true }, { share: ['pid', 'net', 'user', 'cgroup'] as const }];
      for (const variant of variants) {
        const { host, init, command, keeper } = plan(
          { ...config, ...variant, network: 'share' in variant ? 'none' : 'user' },
          facts,
        );
        const steps = [...host, ...init, ...command, ...keeper];
        const inner = steps.filter(({ arguments: values }) =>
          values.some((value) => value instanceof InnerPath),
        );
        expect(
          inner.every(({ number, arguments: [root] }) => number === STEP_PATH && root instanceof Slot),
        ).toBe(true);
        expect(inner.map((step) => (step.arguments[1] as InnerPath).path)).toEqual(
          expect.arrayContaining(['/INNER/a', '/INNER/b', '/INNER/c', '/proc', '/sys', '/dev']),
        );
        expect(steps.filter((step) => textsOf(step).some((text) => text.includes('INNER')))).toEqual([]);
        // In the container, nothing but the command itself is named by more than its name in a directory that is open.
        const changed = init.findIndex(({ purpose }) => purpose === 'enter the new root');
        const inside = [...init.slice(changed), ...command, ...keeper].filter(
          ({ number }) => ![SYS.execve, SYS.symlinkat, SYS.write, SYS.seccomp].includes(number as never),
        );
        const paths = inside.filter((step) => textsOf(step).some((text) => text.includes('/')));
        expect(paths.filter(({ number }) => number !== STEP_PATH)).toEqual([]);
        expect(inside.filter(({ arguments: [first] }) => first === AT_FDCWD)).toEqual([]);
      }
    },
  );

  test('has the host’s root gone before anything in the container is looked at', () => {
    const { host, init } = plan({ volumes: [{ source: '/a', target: '/b' }], network: 'user' });
    const gone = init.findIndex(({ purpose }) => purpose === 'unmount the root of the host');
    const first = [...init.keys()].find((i) => init[i]?.number === STEP_PATH) ?? 0;
    expect(host.some(({ number }) => number === STEP_PATH)).toBe(false);
    expect([gone > 0, first > gone]).toEqual([true, true]);
    const names = init.map(({ purpose }) => purpose);
    expect(names.indexOf('bind /dev/null to /proc/keys')).toBeLessThan(names.indexOf('mount the volume /b'));
    expect(names.indexOf('make /etc/resolv.conf')).toBeLessThan(names.indexOf('mount the volume /b'));
  });

  test('leaves process 1 nothing but what it needs, once the command’s process is there', () => {
    for (const config of [{}, { privileged: true }, { share: ['user'] as const }]) {
      const names = plan(config).keeper.map(({ purpose }) => purpose);
      expect(names).toEqual(expect.arrayContaining(CAPABILITIES.map((name) => `drop ${name}`)));
      expect(names.slice(-3)).toEqual([
        'set the capabilities',
        'give up new privileges',
        'install the filter',
      ]);
    }
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
    const volumes = Array.from({ length: 128 }, (_, i) => ({ source: `/v/${i}`, target: `/v/${i}` }));
    const made = plan({ layers, volumes });
    expect(String(optionsOfOverlay(made)).length).toBeLessThan(4096);
    expect(encodePlan(made).length).toBeLessThan(16 << 20);
  });
});
