/** Guests that mean harm, at the level of the whole machine: each can hurt only itself. */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { createMachine, deviceKinds } from '../../src/index.js';
import { SERIAL_IRQ, SERIAL_PORT, VIRTIO_MMIO_ADDR } from '../../src/memory/layout.js';
import { inRig, temporaryDirectory } from '../support/guest.js';
import { machineFactory, type TinyMachine } from '../support/kvm-machine.js';
import {
  addrOf,
  asm64,
  forever,
  idt,
  outByte,
  PIC_VECTOR,
  pic,
  place,
  tiny,
  wideMap,
} from '../support/tiny-kernel.js';

const directory = temporaryDirectory();
const machineOf = machineFactory(directory);

const HANDLER_OFFSET = 0x4000;
const UART_IER = SERIAL_PORT + 1;
const UART_TRANSMITTER_EMPTY = 2;
const NO_DEVICE = 0xe000_0000;

/** Nothing that a guest does may keep the host's JavaScript from its timers for longer. */
const MAX_TURN_MS = 500;
/** Time for an attack to show. */
const ATTACK_MS = 300;

/** Lets the guest do its worst, and checks that the host's side lives: its timers, pause, resume, metrics and stop. */
async function survives(guest: TinyMachine): Promise<void> {
  const { machine } = guest;
  await machine.start();
  let worst = 0;
  for (let begun = performance.now(), last = begun; last - begun < ATTACK_MS; ) {
    await sleep(1);
    const now = performance.now();
    worst = Math.max(worst, now - last);
    last = now;
  }
  expect(worst, 'the longest turn of the event loop, in ms').toBeLessThan(MAX_TURN_MS);
  expect(machine.state).toBe('running');
  await machine.pause();
  const before = machine.timeline().exits.total;
  await sleep(20);
  expect(machine.timeline().exits.total).toBe(before);
  await machine.resume();
  await machine.kill();
  expect(await machine.wait()).toEqual({ kind: 'stopped' });
}

describe('a guest that', () => {
  const attacks: readonly {
    readonly name: string;
    readonly code: readonly number[];
    readonly pieces?: object;
  }[] = [
    { name: 'spins with interrupts off', code: tiny.spin() },
    { name: 'sleeps with interrupts off', code: tiny.sleep() },
    {
      name: 'reads a port that nobody answers, for ever',
      code: forever(asm64.movEdx(0x1234), asm64.inEaxDx()),
    },
    {
      name: 'reads memory that nobody answers, for ever',
      code: [...wideMap.code, ...forever(asm64.movRdi(NO_DEVICE), asm64.loadEax())],
      pieces: wideMap.pieces(),
    },
    {
      name: 'notifies a queue that is not set up, for ever',
      code: [
        ...wideMap.code,
        ...asm64.movRdi(VIRTIO_MMIO_ADDR + 0x50),
        ...asm64.movEax(0),
        ...forever(asm64.storeEax()),
      ],
      pieces: wideMap.pieces(),
    },
    {
      name: 'resets a device, for ever',
      code: [
        ...wideMap.code,
        ...asm64.movRdi(VIRTIO_MMIO_ADDR + 0x70),
        ...asm64.movEax(0),
        ...forever(asm64.storeEax()),
      ],
      pieces: wideMap.pieces(),
    },
    {
      name: 'writes marks, for ever',
      code: forever(tiny.mark(63)),
    },
    {
      name: 'makes interrupts that it never acknowledges',
      code: [
        ...pic.init(SERIAL_IRQ),
        ...forever(outByte(UART_IER, 0), outByte(UART_IER, UART_TRANSMITTER_EMPTY)),
      ],
    },
    {
      name: 'makes a storm of interrupts and takes them all',
      code: [
        ...idt.code,
        ...pic.init(SERIAL_IRQ),
        ...asm64.sti(),
        ...forever(outByte(UART_IER, 0), outByte(UART_IER, UART_TRANSMITTER_EMPTY)),
      ],
      pieces: {
        ...idt.pieces({ [PIC_VECTOR + SERIAL_IRQ]: HANDLER_OFFSET }),
        [HANDLER_OFFSET]: [
          // push rax, rdx; the end of the interrupt; pop rdx, rax
          ...[0x50, 0x52],
          ...pic.endOfInterrupt(),
          ...[0x5a, 0x58],
          ...asm64.iretq(),
        ],
      },
    },
    {
      name: 'has a timer that never stops and is never acknowledged',
      code: [
        ...idt.code,
        ...pic.init(0),
        ...outByte(0x43, 0x34),
        ...outByte(0x40, 1),
        ...outByte(0x40, 0),
        ...asm64.sti(),
        ...tiny.spin(),
      ],
      pieces: {
        ...idt.pieces({ [PIC_VECTOR]: HANDLER_OFFSET }),
        [HANDLER_OFFSET]: asm64.iretq(),
      },
    },
  ];

  test.each(attacks)('$name leaves the host its timers, pause and stop', async ({ code, pieces = {} }) => {
    await using guest = await machineOf(place({ 0: code, ...pieces }), {
      devices: [deviceKinds['rng']!.fromCli('')],
    });
    await survives(guest);
  });

  test('floods the serial port is delivered in order, in batches, and stops when paused', async () => {
    await using guest = await machineOf(
      place({
        0: forever(
          asm64.movEdx(SERIAL_PORT),
          asm64.movEsi(addrOf(0x3000)),
          asm64.movEcx(4096),
          asm64.repOutsb(),
        ),
        [0x3000]: Uint8Array.from({ length: 4096 }, (_, i) => i & 0xff),
      }),
    );
    const { machine } = guest;
    const enough = (inRig ? 16 : 256) * 1024;
    let received = 0;
    let batches = 0;
    let wrong = 0;
    const flooded = new Promise<void>((resolve) => {
      machine.on('console', (bytes) => {
        for (const byte of bytes) if (byte !== (received++ & 0xff)) wrong++;
        batches++;
        if (received >= enough) resolve();
      });
    });
    await machine.start();
    await flooded;
    await machine.pause();
    const paused = received;
    await sleep(20);
    // At most what one native ring holds was still on its way.
    expect(received - paused).toBeLessThanOrEqual(64 * 1024);
    expect(wrong).toBe(0);
    expect(received / batches).toBeGreaterThan(2);
    await machine.kill();
  });

  test('floods ports that reach JavaScript and its console at once leaves the host its timers', async () => {
    await using guest = await machineOf(forever(tiny.print('x'), outByte(0x1234, 0), outByte(UART_IER, 0)));
    await survives(guest);
  });

  test('never reads its input makes console.write() say so, and what was taken is bounded', async () => {
    await using guest = await machineOf(tiny.spin());
    const { console } = guest.machine;
    await guest.machine.start();
    let drained = false;
    expect(console.write(new Uint8Array(100))).toBe(true);
    expect(console.write(new Uint8Array(64 * 1024))).toBe(false);
    console.onDrain(() => {
      drained = true;
    });
    await sleep(20);
    expect(drained).toBe(false);
    await guest.machine.kill();
  });

  test('reads its input slowly gets all of it, in order', async () => {
    // Polls the line status, echoes; a pause between.
    const echo = forever(
      asm64.movEdx(SERIAL_PORT + 5),
      asm64.inAlDx(),
      [0xa8, 1, 0x74, 5 + 1 + 1], // test al, 1; jz past the echo
      asm64.movEdx(SERIAL_PORT),
      asm64.inAlDx(),
      asm64.outDxAl(),
    );
    const lines = inRig ? 800 : 2000; // more than its queue holds
    const text = Array.from({ length: lines }, (_, i) => `line ${i}\n`).join('');
    await using guest = await machineOf(echo);
    await guest.machine.start();
    guest.machine.console.write(Buffer.from(text));
    await guest.log.waitFor(new RegExp(`line ${lines - 1}\n`));
    expect(guest.log.text).toBe(text);
  });

  test('writes random values to every register of every device hurts only these', async () => {
    const disk = `${directory}/disk`;
    writeFileSync(disk, new Uint8Array(1 << 20));
    // xorshift32 in EBX: address below the slots' end, value, width by turns.
    const next = [0x89, 0xd8, 0xc1, 0xe0, 13, 0x31, 0xc3, 0x89, 0xd8, 0xc1, 0xe8, 17, 0x31, 0xc3];
    const last = [0x89, 0xd8, 0xc1, 0xe0, 5, 0x31, 0xc3];
    const random = [...next, ...last];
    const address = [
      ...[0x89, 0xdf, 0x81, 0xe7, 0xff, 0x31, 0, 0], // mov edi, ebx; and edi, 0x31ff
      ...[0x81, 0xc7, 0, 0, 0, 0xd0], // add edi, VIRTIO_MMIO_ADDR
    ];
    const code = [
      ...wideMap.code,
      ...[0xbb, 0x78, 0x56, 0x34, 0x12], // mov ebx, seed
      ...forever(
        ...[asm64.storeEax(), asm64.storeAl(), asm64.loadEax(), asm64.storeAx(), asm64.storeEax()].map(
          (access) => [...random, ...address, ...random, 0x89, 0xd8, ...access],
        ),
      ),
    ];
    await using guest = await machineOf(place({ 0: code, ...wideMap.pieces() }), {
      devices: [deviceKinds['rng']!.fromCli(''), deviceKinds['blk']!.fromCli(disk)],
      console: 'virtio',
    });
    await survives(guest);
  });
});

describe('a machine whose guest', () => {
  test('does what the host cannot execute ends with a report: the bytes, the address, the registers', async () => {
    // fild dword [rdi] on memory that nobody backs: KVM's emulator has no x87 arithmetic.
    const image = place({
      0: [...wideMap.code, ...tiny.print('x'), ...asm64.movRdi(NO_DEVICE), 0xdb, 0x07, ...tiny.spin()],
      ...wideMap.pieces(),
    });
    await using guest = await machineOf(image);
    const { end, output } = await guest.run();
    expect(output.toString()).toBe('x');
    if (end.kind !== 'kvm-error') expect.fail(JSON.stringify(end));
    expect(end.message).toMatch(
      /^this host's KVM cannot execute the guest's instruction db 07 eb fe [ 0-9a-f]+ at 0x1000[0-9a-f]{2}$/,
    );
    expect(end.registers).toMatch(/^rip=00000000001000[0-9a-f]{2} rsp=.*\n(?:.*\n)*cr0=.* cs=10$/);
    expect(end.registers).toContain('rdi=00000000e0000000');
  });

  test('jumps to memory that nobody backs ends with a report, or the fault is its own', async () => {
    const image = place({
      0: [...wideMap.code, ...asm64.movRdi(NO_DEVICE), 0xff, 0xe7], // jmp rdi
      ...wideMap.pieces(),
    });
    await using guest = await machineOf(image);
    const { end } = await guest.run();
    expect(end.kind).toBeOneOf(['kvm-error', 'triple-fault']);
    if (end.kind === 'kvm-error') expect(end.message).toMatch(/0xe0000000|internal error/);
  });

  test('overwrites its page tables, descriptors and all low memory ends, and no more', async () => {
    const image = [
      ...[0xb8, 0xff, 0xff, 0xff, 0xff], // mov eax, -1
      ...asm64.movEdi(0),
      ...asm64.movEcx(0x10_0000 / 4),
      ...[0xf3, 0xab], // rep stosd, over everything below itself
      ...[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8], // mov rax, cr3; mov cr3, rax: forgets what it knew
      ...tiny.spin(),
    ];
    await using guest = await machineOf(image);
    const { end } = await guest.run();
    expect(end.kind).toBeOneOf(['triple-fault', 'kvm-error']);
  });

  test('is reset again and again leaves nothing behind', async () => {
    const memory = (): number => process.memoryUsage().rss;
    const reset = [...tiny.print('x'), ...tiny.reset()];
    const boot = async (): Promise<void> => {
      await using guest = await machineOf(reset);
      expect((await guest.run()).end).toMatchObject({ kind: 'reset' });
    };
    for (let i = 0; i < 5; i++) await boot();
    const before = memory();
    for (let i = 0; i < (inRig ? 10 : 30); i++) await boot();
    expect(memory() - before).toBeLessThan(64 * 1024 * 1024);
  });
});

describe('createMachine()', () => {
  test.each([
    [
      'more memory than the host has',
      { memoryBytes: 2 ** 39 },
      /^memoryBytes: 512 GiB is more than this host has/,
    ],
    [
      'more memory than a machine can have',
      { memoryBytes: 2 ** 52 },
      /^memoryBytes: .* more than a machine can/,
    ],
    ['no memory', { memoryBytes: 0 }, /^memoryBytes: 0 B is too little/],
    ['memory that is no whole page', { memoryBytes: (1 << 24) + 1 }, /^memoryBytes: .* multiple of 4 KiB/],
    ['0 CPUs', { cpus: 0 }, /^cpus: 0 is not from 1 to 64/],
    ['10000 CPUs', { cpus: 10_000 }, /^cpus: 10000 is not from 1 to 64/],
  ] as const)('of %s is TSVM_CONFIG with a hint', async (_name, config, message) => {
    await expect(createMachine({ kernel: '/dev/null', ...config })).rejects.toMatchObject({
      code: 'TSVM_CONFIG',
      message: expect.stringMatching(message),
      hint: expect.any(String),
    });
  });
});
