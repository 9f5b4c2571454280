import { expect, test } from 'vitest';
import { loadAddon } from '../../src/native/binding.js';
import { PRELUDE, runChild } from '../support/addon-child.js';
import { asm, code, TinyGuest } from '../support/guest-code.js';

/** The child says "ok" as its last word; whatever it says on stderr is in the failure. */
function expectOk(script: string, flags: readonly string[] = []): void {
  const child = runChild(script, flags);
  expect({
    stdout: child.stdout.trim(),
    stderr: child.stderr,
    status: child.status,
    signal: child.signal,
  }).toEqual({
    stdout: 'ok',
    stderr: '',
    status: 0,
    signal: null,
  });
}

const nothing = JSON.stringify({ fds: 0, maps: 0, threads: 0 });

const parts = ['vcpu', 'vm', 'memory', 'kvm', 'buffer'] as const;
const orders = [
  parts,
  [...parts].reverse(),
  ['memory', 'vm', 'vcpu', 'kvm'],
  ['kvm', 'memory', 'vcpu', 'vm'],
  ['vm', 'vm', 'vcpu', 'vcpu', 'memory', 'memory', 'kvm', 'kvm'],
] as const;

test.each(orders.map((order) => [order.join(', '), order] as const))(
  'close() in the order %s',
  async (_name, order) => {
    const guest = new TinyGuest({ code: code(asm.hang()) });
    const exit = guest.run();
    let ended = false;
    void exit.then(() => {
      ended = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (const part of order) {
      if (part === 'vcpu') guest.vcpu.close();
      if (part === 'vm') guest.vm.close();
      if (part === 'memory') guest.memory.close();
      if (part === 'kvm') guest.kvm.close();
    }
    expect(guest.vcpu.running).toBe(false);
    expect(guest.vcpu.runPage.byteLength).toBe(0);
    expect(guest.memory.buffer.byteLength).toBe(0);
    expect(() => guest.vcpu.run()).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => guest.vcpu.getStruct('kvm_regs')).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => guest.vm.createVcpu(1)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => guest.vm.setFastRegisters([])).toThrow(expect.objectContaining({ code: 'EBADF' }));
    guest.vcpu.kick();
    guest.close();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(ended).toBe(false); // a closed vCPU calls nobody
  },
);

test('close() of the VM in onExit and in onStream', async () => {
  const guest = new TinyGuest({ cpus: 2, code: code(asm.outAl(0x80)) });
  const closed = new Promise<void>((resolve) => {
    guest.vcpu.onExit(() => {
      guest.vm.close();
      resolve();
    });
  });
  guest.vcpu.run();
  await closed;
  guest.close();

  const other = new TinyGuest({ code: code(asm.outAl(0x80), asm.hlt()), irqchip: true });
  other.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: 0x80, cell: Uint8Array.of(1) }]);
  const streamed = new Promise<void>((resolve) => {
    other.vm.onStream(() => {
      other.vm.close();
      resolve();
    });
  });
  other.vcpu.run();
  await streamed;
  other.close();
});

test('200 VMs made, run and closed leave no descriptor, mapping or thread', () => {
  expectOk(`(async () => {
    for (let i = 0; i < 200; i++) {
      const guest = build(1, [0xeb, 0xfe]);
      guest.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: 1, cell: Uint8Array.of(1) }]);
      guest.vm.readStats();
      guest.vcpus[0].run();
      const event = addon.createEventFd();
      event.listen(() => {});
      guest.vm.ioeventfd(event, 0, 0x500, 1, undefined, true);
      guest.vm.close(); guest.memory.close(); guest.kvm.close(); event.close();
      if (i % 50 === 0) await tick();
    }
    await tick();
    const left = JSON.stringify(leftovers());
    const descriptors = fs.readdirSync('/proc/self/fd').length;
    console.log(left === '${nothing}' && descriptors < 40 ? 'ok' : left + descriptors);
  })()`);
});

test('what nobody closes is closed by the garbage collector', () => {
  expectOk(
    `(async () => {
      function leak() {
        const guest = build(2, [0xe6, 0x80]);
        const event = addon.createEventFd();
        // Callbacks that mention what they hang on, as real ones do.
        event.listen(() => event.signal());
        guest.vm.onStream(() => guest);
        guest.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: 1, cell: Uint8Array.of(1) }]);
        guest.vm.ioeventfd(event, 0, 0x500, 1, undefined, true);
        for (const vcpu of guest.vcpus) vcpu.onExit(() => guest);
        guest.vcpus[0].run();
        return new WeakRef(guest.vm);
      }
      const refs = Array.from({ length: 20 }, leak);
      for (let i = 0; i < 20 && JSON.stringify(leftovers()) !== '${nothing}'; i++) { await tick(); gc(); }
      const left = JSON.stringify(leftovers());
      console.log(left === '${nothing}' && refs.every((ref) => ref.deref() === undefined) ? 'ok' : left);
    })()`,
    ['--expose-gc'],
  );
});

test('a vCPU that runs is not collected, and keeps its VM and Node alive', () => {
  expectOk(
    `(async () => {
      (() => {
        // Spins until the flag at 0x2000 is set, then exits: cmp byte [0x2000], 0; je -7; out 0x80, al
        const guest = build(1, [0x80, 0x3e, 0, 0x20, 0, 0x74, 0xf9, 0xe6, 0x80]);
        const bytes = new Uint8Array(guest.memory.buffer);
        guest.vcpus[0].onExit(() => console.log('ok'));
        guest.vcpus[0].run();
        setTimeout(() => { gc(); bytes[0x2000] = 1; }, 50).unref();
      })();
      await tick(); gc(); gc();
    })()`,
    ['--expose-gc'],
  );
});

test('a stopped VM, and an eventfd that is listened to, do not keep Node alive', () => {
  expectOk(`
    const guest = build(1, [0xe6, 0x80]);
    const event = addon.createEventFd();
    event.listen(() => {});
    guest.vcpus[0].onExit(() => console.log('ok'));
    guest.vcpus[0].run();
  `);
});

test('process.exit() with running vCPUs', () => {
  expectOk(`spin(4); setTimeout(() => { console.log('ok'); process.exit(0); }, 20);`);
});

test('an uncaught exception with running vCPUs ends the process', () => {
  const child = runChild(`spin(2); setTimeout(() => { throw new Error('boom'); }, 20);`);
  expect(child.stderr).toContain('boom');
  expect({ status: child.status, signal: child.signal }).toEqual({ status: 1, signal: null });
});

const inWorker = (body: string): string => `
  const { Worker } = require('node:worker_threads');
  const source = ${JSON.stringify(PRELUDE)} + ${JSON.stringify(`
    const { parentPort } = require('node:worker_threads');
    ${body}`)};
  function start() {
    return new Promise((resolve, reject) => {
      const worker = new Worker(source, { eval: true });
      worker.on('error', reject);
      worker.once('message', () => resolve(worker));
      if (${JSON.stringify(body)}.includes('process.exit')) worker.once('exit', () => resolve(worker));
    });
  }
`;

test('a worker that is terminated takes its vCPUs with it', () => {
  expectOk(`${inWorker(`
    const guest = spin(2);
    const event = addon.createEventFd();
    event.listen(() => {});
    parentPort.postMessage('runs');`)}
    (async () => {
      for (let i = 0; i < 5; i++) {
        const workers = await Promise.all([start(), start()]);
        if (leftovers().threads !== 4) console.log('no threads', leftovers());
        await Promise.all(workers.map((worker) => worker.terminate()));
      }
      const left = JSON.stringify(leftovers());
      console.log(left === '${nothing}' ? 'ok' : left);
    })()`);
});

test('a worker that is terminated while exits flood in', () => {
  expectOk(`${inWorker(`
    const guest = build(1, [0xe6, 0x80, 0xe6, 0x81, 0xeb, 0xfa]);
    guest.vm.setFastRegisters([{ space: 0, kind: 'stream', addr: 0x81, cell: Uint8Array.of(1), capacityBytes: 4 }]);
    guest.vm.onStream(() => {});
    let exits = 0;
    guest.vcpus[0].onExit(() => { if (++exits === 100) parentPort.postMessage('runs'); guest.vcpus[0].run(); });
    guest.vcpus[0].run();`)}
    (async () => {
      for (let i = 0; i < 10; i++) await (await start()).terminate();
      const left = JSON.stringify(leftovers());
      console.log(left === '${nothing}' ? 'ok' : left);
    })()`);
});

test('process.exit() in a worker with running vCPUs', () => {
  expectOk(`${inWorker(`spin(2); setTimeout(() => process.exit(), 10);`)}
    (async () => {
      await start();
      await tick();
      const left = JSON.stringify(leftovers());
      console.log(left === '${nothing}' ? 'ok' : left);
    })()`);
});

test('main thread and workers run guests at the same time', () => {
  expectOk(`${inWorker(`
    const guest = build(1, [0xe6, 0x80]);
    guest.vcpus[0].onExit(() => { parentPort.postMessage('exit'); });
    guest.vcpus[0].run();`)}
    (async () => {
      const guest = build(1, [0xe6, 0x80]);
      const exit = new Promise((resolve) => guest.vcpus[0].onExit(resolve));
      guest.vcpus[0].run();
      await Promise.all([exit, start(), start()]);
      console.log('ok');
    })()`);
});

test('a child process does not inherit descriptors', () => {
  expectOk(`
    const guest = spin(1);
    addon.createEventFd();
    const { execFileSync } = require('node:child_process');
    const links = execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
    console.log(/kvm|memfd|eventfd/.test(links) ? links : 'ok');
    guest.vm.close();
  `);
});

test('the run page and the memory are unmapped after close(), although their buffers are still referenced', async () => {
  expectOk(`(async () => {
    const guest = build(1, [0xe6, 0x80]);
    const views = [new Uint8Array(guest.memory.buffer), new DataView(guest.vcpus[0].runPage), guest.vcpus[0].counters];
    guest.memory.close();
    const held = leftovers().maps;
    guest.vm.close(); guest.kvm.close();
    for (let i = 0; i < 400 && leftovers().maps > 0; i++) await tick();
    const left = JSON.stringify(leftovers());
    console.log(held === 2 && left === '${nothing}' && views[0].length === 0 && views[2].length > 0 ? 'ok' : held + left);
  })()`);
});

test('loadAddon() gives the same addon again', () => {
  expect(Object.keys(loadAddon()).sort()).toEqual([
    'blockDeviceBytes',
    'createEventFd',
    'createMemory',
    'fallocate',
    'flock',
    'makeFifo',
    'memfd',
    'openDiskIo',
    'openFolderIo',
    'openKvm',
    'openTap',
    'setTimes',
    'setXattr',
  ]);
});
