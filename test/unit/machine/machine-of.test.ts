/** Types of a machine by its configuration: what was asked for needs no question mark. */
import { expectTypeOf, test } from 'vitest';
import type {
  DeviceRequest,
  GuestChannel,
  MachineBalloon,
  MachineConfig,
  MachineOf,
  MachineVsock,
} from '../../../src/index.js';
import { balloon, rng, vsock } from '../../../src/index.js';

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
