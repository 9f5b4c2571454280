/** The board of a machine: what answers at which port, and how it is saved. */
import { describe, expect, test } from 'vitest';
import type { MachineConfig } from '../../../src/machine/config.js';
import { Terminal } from '../../../src/machine/console.js';
import { Platform } from '../../../src/machine/platform.js';
import type { Wiring } from '../../../src/machine/wiring.js';
import { createGuestMemory } from '../../../src/memory/guest-memory.js';
import { RTC_PORT, SERIAL_PORT } from '../../../src/memory/layout.js';
import { Guard } from '../../../src/util/guard.js';

const FIRMWARE: MachineConfig = { firmware: 'builtin' };
const SCRATCH_REGISTER = SERIAL_PORT + 7;

function platformOf(config: MachineConfig) {
  const lines: number[] = [];
  const said: string[] = [];
  const terminal = new Terminal((bytes) => said.push(Buffer.from(bytes).toString()), new Guard(() => {}));
  const nothing = (): void => {};
  const line = (gsi: number) => {
    lines.push(gsi);
    return { trigger: nothing };
  };
  const platform = new Platform({
    config,
    memory: createGuestMemory([{ addr: 0, bytes: new Uint8Array(4096) }]),
    wiring: {
      irq: line,
      rareIrq: line,
      add: nothing,
    } as Partial<Wiring> as Wiring,
    generation: new Uint8Array(16),
    terminal,
    devices: [],
    events: {
      onMark: (code) => said.push(`mark ${code}`),
      onExitStatus: nothing,
      onPowerOff: nothing,
      onReset: nothing,
      onDeviceError: nothing,
      onDeviceFault: nothing,
    },
  });
  return { platform, lines, said, terminal };
}

const named = ({ platform }: ReturnType<typeof platformOf>): string[] =>
  platform.ports.ranges.map(({ base, length, device }) => `${base.toString(16)}+${length} ${device.name}`);

describe('Platform', () => {
  test('has the devices of the board at their ports, with their interrupts', () => {
    const full = platformOf(FIRMWARE);
    const always = ['60+5 i8042', '70+2 rtc', '5f0+3 boot-marks', '600+3 acpi-power'];
    const sometimes = ['3f8+8 serial', '402+1 debug-console'];
    expect(named(full)).toEqual(expect.arrayContaining([...always, ...sometimes]));
    expect(full.lines).toEqual(expect.arrayContaining([1, 4]));
    const bare = platformOf({ console: 'none' });
    expect(named(bare)).toEqual(expect.arrayContaining(always));
    for (const device of sometimes) expect(named(bare)).not.toContain(device);
    expect(bare.lines).not.toContain(4);
  });

  test('types on the serial port where that is the console', () => {
    const typedOn = (config: MachineConfig): unknown => {
      const { platform, terminal } = platformOf(config);
      terminal.write(Buffer.from('x'));
      const data = new Uint8Array(1);
      platform.ports.read(SERIAL_PORT, data);
      return data[0];
    };
    expect([typedOn({}), typedOn({ console: 'virtio' })]).toEqual([0x78, 0]);
  });

  test('saves each device that has a state by the name of its row, and restores it', () => {
    const { platform } = platformOf({});
    platform.ports.write(SCRATCH_REGISTER, Uint8Array.of(0x5a));
    platform.ports.write(RTC_PORT, Uint8Array.of(0x40));
    const state = JSON.parse(JSON.stringify(platform.save()));
    expect(Object.keys(state.board)).toEqual(expect.arrayContaining(['i8042', 'rtc', 'serial']));
    const copy = platformOf({}).platform;
    copy.restore(state);
    const data = new Uint8Array(1);
    copy.ports.read(SCRATCH_REGISTER, data);
    expect(data[0]).toBe(0x5a);
    expect(copy.save()).toEqual(platform.save());
  });

  test.each([
    ['without a device that the machine has', { rtc: undefined }, 'no rtc'],
    ['with a device that it has not', { speaker: { version: 1 } }, 'a device that this machine has not'],
    ['whose device has a bad register', { rtc: { version: 1, index: 256 } }, 'rtc: index'],
    ['whose device is of another version', { rtc: { version: 9 } }, 'version 9'],
  ])('refuses a state %s', (_what, more, message) => {
    const { platform } = platformOf({});
    const { board, ...rest } = platform.save();
    const changed = JSON.parse(JSON.stringify({ ...board, ...more }));
    expect(() => platform.restore({ board: changed, ...rest })).toThrowError(
      expect.objectContaining({ code: 'TSVM_STATE', message: expect.stringContaining(message) }),
    );
  });
});
