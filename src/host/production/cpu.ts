/** Checks of the processor: what one guest can learn of another, or of the host, by sharing it. */
import { check, type HostCheck, holds, unknown, type Verdict, weak } from './check.js';

const CPU = 'sys/devices/system/cpu';
const VULNERABILITIES = `${CPU}/vulnerabilities`;
/** A virtual machine's flag. There threads and the revision of the microcode are what the outer hypervisor makes of them. */
const HYPERVISOR_FLAG = /^flags\s*:.*\bhypervisor\b/m;
const VIRTUAL = 'this host is a virtual machine itself';

/** States that the kernel gives to a flaw that is none here, or is dealt with. */
const DEALT_WITH = /^(KVM: )?(Not affected|Mitigation)/;

/** Judges a module's parameter that is on or off: `Y` and `N`, or `1` and `0`. */
function judgeSwitch(setting: string, on: Verdict, off: Verdict): Verdict {
  if (/^[Y1]$/.test(setting)) return on;
  return /^[N0]$/.test(setting) ? off : unknown(`it is ${setting}`);
}

export const CPU_CHECKS: readonly HostCheck[] = [
  check({
    id: 'smt',
    what: 'a guest on one thread of a core can watch what runs on the other',
    read(host) {
      const active = host.number(`${CPU}/smt/active`);
      return active === undefined ? undefined : { active, cpuinfo: host.text('proc/cpuinfo') ?? '' };
    },
    judge({ active, cpuinfo }) {
      if (active !== 0) return weak('a core runs several threads');
      return HYPERVISOR_FLAG.test(cpuinfo) ? unknown(VIRTUAL) : holds('a core runs one thread');
    },
    remedy: 'nosmt on the host’s kernel command line',
  }),
  check({
    id: 'mitigations',
    what: 'flaws of the processor that let a guest read what is not its own',
    read: (host) =>
      host
        .names(VULNERABILITIES)
        ?.map((name) => ({ name, state: host.text(`${VULNERABILITIES}/${name}`) ?? 'Unknown' })),
    judge(flaws) {
      const named = (wrong: RegExp): string[] =>
        flaws.filter(({ state }) => wrong.test(state)).map(({ name }) => name);
      // `Mitigation: ...; SMT vulnerable` is one as well, and so is an attempt without the microcode for it.
      const open = named(/vulnerable|no microcode|no mitigations/i);
      if (open.length > 0) return weak(`open: ${open.join(', ')}`);
      const unsure = flaws.filter(({ state }) => !DEALT_WITH.test(state) || /unknown/i.test(state));
      if (unsure.length > 0) return unknown(`not known: ${unsure.map(({ name }) => name).join(', ')}`);
      if (flaws.length === 0) return unknown('the kernel names none');
      return holds(`${flaws.length} known flaws, none of them open`);
    },
    remedy: 'boot a current kernel without mitigations=off, with current microcode',
  }),
  check({
    id: 'microcode',
    what: 'fixes of the processor itself, which many mitigations need',
    read: (host) => {
      const cpuinfo = host.text('proc/cpuinfo');
      return cpuinfo === undefined
        ? undefined
        : { cpuinfo, old: host.text(`${VULNERABILITIES}/old_microcode`) };
    },
    judge({ cpuinfo, old }) {
      const all = [...cpuinfo.matchAll(/^microcode\s*: (\S+)$/gm)].map(([, revision]) => revision);
      const revisions = [...new Set(all)];
      if (HYPERVISOR_FLAG.test(cpuinfo)) return unknown(VIRTUAL);
      if (revisions.length === 0) return unknown('the processor names no revision');
      if (revisions.length > 1) return weak(`revisions differ: ${revisions.join(', ')}`);
      if (old !== undefined && /vulnerable/i.test(old))
        return weak(`revision ${revisions[0]} is out of date`);
      // Linux before 6.16 has no list to compare with.
      return holds(`revision ${revisions[0]}${old === undefined ? ', its age unknown to this kernel' : ''}`);
    },
    remedy: 'apt-get install amd64-microcode intel-microcode, and boot again',
  }),
  check({
    id: 'nx-huge-pages',
    what: 'without it a guest can halt a processor with the flaw itlb_multihit',
    read: (host) => {
      const setting = host.text('sys/module/kvm/parameters/nx_huge_pages');
      return setting === undefined
        ? undefined
        : { setting, flaw: host.text(`${VULNERABILITIES}/itlb_multihit`) };
    },
    judge({ setting, flaw }) {
      if (setting === 'Y') return holds('guests execute from small pages only');
      if (flaw === 'Not affected') return holds('off, and this processor has not the flaw');
      return weak(`${setting}, and the processor may have the flaw`);
    },
    remedy: 'kvm.nx_huge_pages=force on the host’s kernel command line',
  }),
  check({
    id: 'nested',
    what: 'a guest that may run guests reaches much more of the host’s kernel',
    read: (host) =>
      ['kvm_intel', 'kvm_amd']
        .map((module) => host.text(`sys/module/${module}/parameters/nested`))
        .find((setting) => setting !== undefined),
    judge: (setting) => judgeSwitch(setting, weak('guests may run guests'), holds('guests run no guests')),
    remedy: 'options kvm_intel nested=0 in /etc/modprobe.d; kvm_amd likewise',
  }),
  check({
    id: 'ignore-msrs',
    what: 'a register that KVM does not know is to be a fault, not a zero',
    read: (host) => host.text('sys/module/kvm/parameters/ignore_msrs'),
    judge: (setting) => judgeSwitch(setting, weak('they are ignored'), holds('they are a fault')),
    remedy: 'echo N > /sys/module/kvm/parameters/ignore_msrs',
  }),
];
