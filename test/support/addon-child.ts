/** Scripts that load the addon in a process or worker of their own, for tests of exits and leaks. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const addonPath = fileURLToPath(new URL('../../kvm-addon/build/Release/kvm_addon.node', import.meta.url));

/**
 * CommonJS that every script begins with: `spin(cpus)` starts guests that execute `jmp $`, `idle()` makes one that never
 * ran, `leftovers()` counts what KVM objects this process holds.
 */
export const PRELUDE = `
const addon = require(${JSON.stringify(addonPath)});
const fs = require('node:fs');
const tick = () => new Promise((resolve) => setTimeout(resolve, 5));
function build(cpus, code) {
  const kvm = addon.openKvm('/dev/kvm');
  const vm = kvm.createVm();
  const memory = addon.createMemory(0x10000, 'child-guest');
  new Uint8Array(memory.buffer).set(code, 0x1000);
  vm.setMemorySlot(0, 0, 0, 0x10000, memory, 0);
  const vcpus = Array.from({ length: cpus }, (_, id) => {
    const vcpu = vm.createVcpu(id);
    const sregs = vcpu.getStruct('kvm_sregs');
    new DataView(sregs.buffer).setBigUint64(0, 0n, true);
    new DataView(sregs.buffer).setUint16(12, 0, true);
    vcpu.setStruct('kvm_sregs', sregs);
    const regs = vcpu.getStruct('kvm_regs');
    new DataView(regs.buffer).setBigUint64(128, 0x1000n, true);
    new DataView(regs.buffer).setBigUint64(136, 2n, true);
    vcpu.setStruct('kvm_regs', regs);
    return vcpu;
  });
  return { kvm, vm, memory, vcpus };
}
function spin(cpus) {
  const guest = build(cpus, [0xeb, 0xfe]);
  for (const vcpu of guest.vcpus) { vcpu.onExit(() => {}); vcpu.run(); }
  return guest;
}
function leftovers() {
  const links = fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try { return [fs.readlinkSync('/proc/self/fd/' + fd)]; } catch { return []; }
  });
  const threads = fs.readdirSync('/proc/self/task').map((id) => {
    try { return fs.readFileSync('/proc/self/task/' + id + '/comm', 'utf8'); } catch { return ''; }
  });
  const maps = fs.readFileSync('/proc/self/maps', 'latin1').split('\\n');
  return {
    fds: links.filter((link) => /kvm|memfd/.test(link)).length,
    maps: maps.filter((line) => /kvm-vcpu|memfd/.test(line)).length,
    threads: threads.filter((name) => name.startsWith('vcpu-')).length,
  };
}
`;

/** Runs a CommonJS script after the prelude in a process of its own. */
export function runChild(script: string, flags: readonly string[] = []): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [...flags, '-e', `${PRELUDE}\n${script}`], {
    encoding: 'utf8',
    timeout: 60_000,
  });
}
