/** A guest's accesses to ports and memory, through a whole machine. */
import { describe, expect, test } from 'vitest';
import { DEBUG_CONSOLE_PORT, SERIAL_PORT, VIRTIO_MMIO_ADDR } from '../../src/memory/layout.js';
import { GIB, MIB } from '../../src/util/units.js';
import { hostMemoryBytes, temporaryDirectory } from '../support/guest.js';
import { machineFactory } from '../support/kvm-machine.js';
import { notHere } from '../support/skip-reasons.js';
import { addrOf, asm64, place, tiny, wideMap } from '../support/tiny-kernel.js';

const machineOf = machineFactory(temporaryDirectory());

/** A port, and an address in the hole for devices, that nothing answers. */
const NO_PORT = 0x1234;
const NO_DEVICE = 0xe000_0000;
const DATA_OFFSET = 0x3000;

/** Runs the code, then powers off: what it printed. */
async function outputOf(code: readonly (readonly number[])[], pieces = {}): Promise<Buffer> {
  const image = place({ 0: [...code.flat(), ...tiny.powerOff()], ...pieces });
  await using guest = await machineOf(image);
  const { end, output } = await guest.run();
  expect(end).toMatchObject({ kind: 'power-off' });
  return output;
}

const withDeviceMemory = (...code: readonly (readonly number[])[]) =>
  outputOf([wideMap.code, ...code], wideMap.pieces());

describe('a port', () => {
  test('that nobody answers reads all ones in every width', async () => {
    const read = (instruction: number[], bytes: number) => [
      ...asm64.movEax(0),
      ...asm64.movEdx(NO_PORT),
      ...instruction,
      ...asm64.printRax(bytes),
    ];
    expect(
      await outputOf([
        read(asm64.inAlDx(), 4), // the rest of EAX is left alone
        read(asm64.inAxDx(), 4),
        read(asm64.inEaxDx(), 4),
      ]),
    ).toEqual(Buffer.from('ff000000ffff0000ffffffff', 'hex'));
  });

  test('that nobody answers drops writes of every width', async () => {
    const writes = [asm64.outDxAl(), asm64.outDxAx(), asm64.outDxEax()].flat();
    const code = [asm64.movEdx(NO_PORT), asm64.movEax(0xffff_ffff), writes, tiny.print('alive')];
    expect((await outputOf(code)).toString()).toBe('alive');
  });

  test('takes an access over the end of its device as one that nobody answers', async () => {
    // The UART has 8 ports; the 4 bytes from its seventh on are not all its own.
    const code = [asm64.movEdx(SERIAL_PORT + 6), asm64.inEaxDx(), asm64.printRax(4)];
    expect(await outputOf(code)).toEqual(Buffer.from('ffffffff', 'hex'));
  });

  test('keeps what a device holds: the UART scratch register', async () => {
    const scratch = SERIAL_PORT + 7;
    const code = [
      [...asm64.movEdx(scratch), ...asm64.movEax(0x5a), ...asm64.outDxAl()],
      [...asm64.movEax(0), ...asm64.inAlDx(), ...asm64.printRax(1)],
    ];
    expect(await outputOf(code)).toEqual(Buffer.from('5a', 'hex'));
  });
});

describe('string I/O', () => {
  const text = Buffer.from(Array.from({ length: 5000 }, (_, i) => i & 0xff));

  test('writes every byte, in order, to a stream register', async () => {
    const code = [
      asm64.movEdx(SERIAL_PORT),
      asm64.movEsi(addrOf(DATA_OFFSET)),
      asm64.movEcx(text.length),
      asm64.repOutsb(),
    ];
    expect(await outputOf(code, { [DATA_OFFSET]: text })).toEqual(text);
  });

  test('writes dwords to the ports from there on, each four registers wide', async () => {
    // Ports 0x3f8 to 0x3fb: THR, IER, FCR, LCR. Only the first byte of each dword is printed.
    const dwords = Buffer.alloc(40);
    for (let i = 0; i < 10; i++) dwords[i * 4] = 0x30 + i;
    const code = [
      asm64.movEdx(SERIAL_PORT),
      asm64.movEsi(addrOf(DATA_OFFSET)),
      asm64.movEcx(10),
      asm64.repOutsd(),
    ];
    expect((await outputOf(code, { [DATA_OFFSET]: dwords })).toString()).toBe('0123456789');
  });

  test('reads all ones from a port that nobody answers, and no more than its count', async () => {
    const code = [
      asm64.movEdx(NO_PORT),
      asm64.movEdi(addrOf(DATA_OFFSET)),
      asm64.movEcx(3000),
      asm64.repInsb(),
      // What is there then is printed.
      asm64.movEdx(SERIAL_PORT),
      asm64.movEsi(addrOf(DATA_OFFSET)),
      asm64.movEcx(3001),
      asm64.repOutsb(),
    ];
    const output = await outputOf(code, { [DATA_OFFSET]: new Uint8Array(4000) });
    expect(output).toEqual(Buffer.concat([Buffer.alloc(3000, 0xff), Buffer.alloc(1)]));
  });

  test('with a count of 0 does nothing', async () => {
    const code = [
      asm64.movEdx(SERIAL_PORT),
      asm64.movEsi(addrOf(DATA_OFFSET)),
      asm64.movEcx(0),
      asm64.repOutsb(),
      tiny.print('.'),
    ];
    expect((await outputOf(code, { [DATA_OFFSET]: text })).toString()).toBe('.');
  });

  test('that writes to the reset port many times ends the machine once', async () => {
    const image = place({
      0: [
        ...asm64.movEdx(0x64),
        ...asm64.movEsi(addrOf(DATA_OFFSET)),
        ...asm64.movEcx(100),
        ...asm64.repOutsb(),
        ...tiny.spin(),
      ],
      [DATA_OFFSET]: new Uint8Array(100).fill(0xfe),
    });
    await using guest = await machineOf(image);
    expect((await guest.run()).end).toEqual({ kind: 'reset', exitStatus: undefined });
  });
});

describe('memory that no RAM backs', () => {
  test('reads all ones in every width', async () => {
    const read = (instruction: number[], bytes: number) => [
      ...asm64.movEax(0),
      ...asm64.movRdi(NO_DEVICE),
      ...instruction,
      ...asm64.printRax(bytes),
    ];
    expect(
      await withDeviceMemory(
        read(asm64.loadAl(), 4),
        read(asm64.loadAx(), 4),
        read(asm64.loadEax(), 4),
        read(asm64.loadRax(), 8),
      ),
    ).toEqual(Buffer.from('ff000000ffff0000ffffffffffffffffffffffff', 'hex'));
  });

  test('drops writes of every width', async () => {
    const stores = [asm64.storeAl(), asm64.storeAx(), asm64.storeEax(), asm64.storeRax()].flat();
    const output = await withDeviceMemory(
      [...asm64.movRdi(NO_DEVICE), ...asm64.movEax(0), ...stores],
      [...asm64.loadRax(), ...asm64.printRax(8)],
    );
    expect(output).toEqual(Buffer.alloc(8, 0xff));
  });

  test('beyond the end of RAM is like that too', async () => {
    const output = await withDeviceMemory(
      [...asm64.movRdi(4 * MIB), ...asm64.movEax(0x1111_1111), ...asm64.storeEax()],
      [...asm64.loadEax(), ...asm64.printRax(4)],
    );
    expect(output).toEqual(Buffer.alloc(4, 0xff));
  });

  test('an access over two pages of it is answered in parts', async () => {
    const output = await withDeviceMemory(
      [...asm64.movRdi(NO_DEVICE + 0xffd), ...asm64.movEax(0), ...asm64.storeRax()],
      [...asm64.loadRax(), ...asm64.printRax(8)],
    );
    expect(output).toEqual(Buffer.alloc(8, 0xff));
  });
});

describe('a virtio-mmio slot', () => {
  test('without a device is memory that nobody answers', async () => {
    const output = await withDeviceMemory([
      ...asm64.movRdi(VIRTIO_MMIO_ADDR),
      ...asm64.loadEax(),
      ...asm64.printRax(4),
    ]);
    expect(output).toEqual(Buffer.alloc(4, 0xff));
  });

  test('with a device shows magic, version and device ID (virtio 1.3, 4.2.2)', async () => {
    const { deviceKinds } = await import('../../src/index.js');
    const read = (offset: number) => [
      ...asm64.movRdi(VIRTIO_MMIO_ADDR + offset),
      ...asm64.loadEax(),
      ...asm64.printRax(4),
    ];
    const image = place({
      0: [...wideMap.code, ...read(0), ...read(4), ...read(8), ...tiny.powerOff()],
      ...wideMap.pieces(),
    });
    await using guest = await machineOf(image, { devices: [deviceKinds['rng']!.fromCli('')] });
    expect((await guest.run()).output).toEqual(Buffer.from('virt\x02\0\0\0\x04\0\0\0', 'latin1'));
  });
});

describe('RAM', () => {
  const MEMORY_BYTES = 5 * GIB;
  // 3 GiB below the hole, 2 GiB from 4 GiB on.
  const last = 6 * GIB - 8;

  test('above 4 GiB is there up to its last byte, and no further', async ({ skip }) => {
    skip(hostMemoryBytes < MEMORY_BYTES, notHere('this host has less than 5 GiB'));
    const store = (addr: number, value: number) => [
      ...asm64.movRdi(addr),
      ...asm64.movEax(value),
      ...asm64.storeRax(),
    ];
    const show = (addr: number) => [...asm64.movRdi(addr), ...asm64.loadRax(), ...asm64.printRax(8)];
    const addrs = [4 * GIB, 5 * GIB, last, 3 * GIB - 8];
    const image = place({
      0: [
        ...wideMap.code,
        ...addrs.flatMap((addr, i) => store(addr, 0x1000 + i)),
        ...addrs.flatMap(show),
        ...show(6 * GIB),
        ...tiny.powerOff(),
      ],
      ...wideMap.pieces(),
    });
    await using guest = await machineOf(image, { memoryBytes: MEMORY_BYTES });
    const { end, output } = await guest.run();
    expect(end).toMatchObject({ kind: 'power-off' });
    const expected = Buffer.alloc(5 * 8, 0xff);
    for (const i of addrs.keys()) expected.writeBigUInt64LE(BigInt(0x1000 + i), i * 8);
    expect(output).toEqual(expected);
  });
});

describe('the debug console at port 0x402', () => {
  test('prints and reads 0xe9 with a firmware; without, nobody is there', async () => {
    const code = [
      ...asm64.movEdx(DEBUG_CONSOLE_PORT),
      ...asm64.movEax(0),
      ...asm64.inAlDx(),
      ...asm64.printRax(1),
      ...asm64.movEdx(DEBUG_CONSOLE_PORT),
      ...asm64.movEax(0x21),
      ...asm64.outDxAl(),
      ...tiny.powerOff(),
    ];
    await using without = await machineOf(code);
    expect((await without.run()).output).toEqual(Buffer.from('ff', 'hex'));
    await using withIt = await machineOf(code, { firmware: 'builtin' });
    expect((await withIt.run()).output).toEqual(Buffer.from('e921', 'hex'));
  });
});
