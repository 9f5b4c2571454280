/** Types of a machine by its configuration: what was asked for needs no question mark. */
import { expectTypeOf, test } from 'vitest';
import type {
  DeviceRequest,
  GuestChannel,
  Machine,
  MachineBalloon,
  MachineConfig,
  MachineOf,
  MachinePart,
  MachineVsock,
  MachineWith,
  RestoreOptions,
  SavedMachine,
} from '../../../src/index.js';
import { balloon, machineFromTemplate, restoreMachine, rng, vsock } from '../../../src/index.js';

function made<const Config extends MachineConfig>(_config: Config): MachineOf<Config> {
  return {} as MachineOf<Config>;
}

test('a machine has the channel, balloon and vsock that its configuration asks for', () => {
  const machine = made({ kernel: 'vmlinux', channel: true, devices: [rng(), vsock(), balloon()] });
  expectTypeOf(machine.channel).toEqualTypeOf<GuestChannel>();
  expectTypeOf(machine.vsock).toEqualTypeOf<MachineVsock>();
  expectTypeOf(machine.balloon).toEqualTypeOf<MachineBalloon>();
  const more: DeviceRequest[] = [];
  expectTypeOf(made({ devices: [vsock(), ...more] }).vsock).toEqualTypeOf<MachineVsock>();
  expectTypeOf(made({ devices: [...more, vsock()] }).vsock).toEqualTypeOf<MachineVsock>();
});

test('a machine of which it is not known has them perhaps', () => {
  const devices: DeviceRequest[] = [vsock()];
  const config: MachineConfig = { channel: true };
  expectTypeOf(made(config).channel).toEqualTypeOf<GuestChannel | undefined>();
  expectTypeOf(made({ channel: false, devices }).channel).toEqualTypeOf<GuestChannel | undefined>();
  expectTypeOf(made({ devices }).vsock).toEqualTypeOf<MachineVsock | undefined>();
  expectTypeOf(made({ devices: [rng()] }).vsock).toEqualTypeOf<MachineVsock | undefined>();
  expectTypeOf(made({ devices: [balloon()] }).vsock).toEqualTypeOf<MachineVsock | undefined>();
});

/** Machine as a call gives it, which is not made. */
type Given<Call extends (...args: never) => Promise<unknown>> = Awaited<ReturnType<Call>>;

test('forks have the parts of the machine that they are copies of', () => {
  const parent = made({ channel: true, devices: [vsock()] });
  type Fork = Given<typeof parent.fork>[number];
  expectTypeOf<Fork['channel']>().toEqualTypeOf<GuestChannel>();
  expectTypeOf<Fork['vsock']>().toEqualTypeOf<MachineVsock>();
  expectTypeOf<Fork['balloon']>().toEqualTypeOf<MachineBalloon | undefined>();
  expectTypeOf<Given<Machine['fork']>>().toEqualTypeOf<Machine[]>();
});

test('a restored machine has the parts that it is required to have', () => {
  const both = () => restoreMachine('warm', { requires: ['channel', 'vsock'] });
  expectTypeOf<Given<typeof both>['channel']>().toEqualTypeOf<GuestChannel>();
  expectTypeOf<Given<typeof both>['vsock']>().toEqualTypeOf<MachineVsock>();
  expectTypeOf<Given<typeof both>['balloon']>().toEqualTypeOf<MachineBalloon | undefined>();
  const saved = {} as SavedMachine;
  const one = () => saved.restore({ requires: ['balloon'], disks: 'direct' });
  expectTypeOf<Given<typeof one>['balloon']>().toEqualTypeOf<MachineBalloon>();
});

test('a restored machine of which that is not known has them perhaps', () => {
  const none = () => restoreMachine('warm', { disks: 'direct' });
  const given = (options: RestoreOptions) => restoreMachine('warm', options);
  const listed = (requires: MachinePart[]) => restoreMachine('warm', { requires });
  for (const call of [none, given, listed])
    expectTypeOf<Given<typeof call>['channel']>().toEqualTypeOf<GuestChannel | undefined>();
  const either = (part: 'channel' | 'balloon') => restoreMachine('warm', { requires: [part] });
  expectTypeOf<Given<typeof either>['channel']>().toEqualTypeOf<GuestChannel | undefined>();
});

test('a machine from a template has a channel, and what its configuration asks for', () => {
  const template = () => machineFromTemplate({ kernel: 'vmlinux', devices: [balloon()] });
  expectTypeOf<Given<typeof template>['channel']>().toEqualTypeOf<GuestChannel>();
  expectTypeOf<Given<typeof template>['balloon']>().toEqualTypeOf<MachineBalloon>();
  expectTypeOf<MachineWith<['channel']>>().toExtend<Machine>();
});
