/** Checks of the host's kernel: its age, and what it lets users do who have taken over a monitor. */
import { check, type HostCheck, holds, unknown, weak } from './check.js';

/** Distributions bring out fixes every few weeks. */
const MAX_KERNEL_AGE_DAYS = 180;
const DAY_MS = 86_400_000;

interface Sysctl {
  readonly id: string;
  readonly what: string;
  /** Names with dots, as sysctl(8) has them. */
  readonly names: readonly string[];
  /** The least value that is good. */
  readonly least: number;
}

const path = (name: string): string => `proc/sys/${name.replaceAll('.', '/')}`;

function sysctl({ id, what, names, least }: Sysctl): HostCheck {
  return check({
    id,
    what,
    read(host) {
      const values = names.flatMap((name) => {
        const value = host.number(path(name));
        return value === undefined ? [] : [{ name, value }];
      });
      return values.length === names.length ? values : undefined;
    },
    judge(values) {
      const said = values
        .map(({ name, value }) => `${name.slice(name.lastIndexOf('.') + 1)} is ${value}`)
        .join(', ');
      return values.every(({ value }) => value >= least) ? holds(said) : weak(said);
    },
    remedy: `sysctl -w ${names.map((name) => `${name}=${least}`).join(' ')}`,
  });
}

/** The day on which a kernel was built, from /proc/version: Debian's `(2026-08-01)`, or `Sat Aug 1 10:00:00 UTC 2026`. */
function builtAt(version: string): Date | undefined {
  const [, day] = /\((\d{4}-\d\d-\d\d)\)$/.exec(version) ?? [];
  const [, month, date, year] = /\w{3} (\w{3}) +(\d+) [\d:]+ \w+ (\d{4})$/.exec(version) ?? [];
  const time = Date.parse(day ?? `${date} ${month} ${year} UTC`);
  return Number.isNaN(time) ? undefined : new Date(time);
}

export const KERNEL_CHECKS: readonly HostCheck[] = [
  check({
    id: 'kernel-age',
    what: 'the host’s kernel is the wall; newer ones mend its holes',
    read: (host) => {
      const version = host.text('proc/version');
      const release = host.text('proc/sys/kernel/osrelease');
      return version === undefined || release === undefined ? undefined : { version, release };
    },
    judge({ version, release }, now) {
      const built = builtAt(version);
      const days = built === undefined ? -1 : Math.floor((now.getTime() - built.getTime()) / DAY_MS);
      if (days < 0) return unknown(`${release} does not say when it was built`);
      const said = `${release} is ${days} days old`;
      return days > MAX_KERNEL_AGE_DAYS ? weak(said) : holds(said);
    },
    remedy: 'boot the current kernel of a series that is maintained',
  }),
  check({
    id: 'kvm-device',
    what: 'whoever may open /dev/kvm reaches KVM’s code in the kernel',
    read: (host) => host.mode('dev/kvm'),
    judge(mode) {
      const said = `/dev/kvm has mode ${mode.toString(8).padStart(4, '0')}`;
      return (mode & 0o007) === 0 ? holds(said) : weak(said);
    },
    remedy: 'chmod o= /dev/kvm; for good: a udev rule with MODE="0660"',
  }),
  check({
    id: 'user-namespaces',
    what: 'in one, any user is a superuser to much of the kernel',
    read(host) {
      const most = host.number(path('user.max_user_namespaces'));
      const restricted = host.number(path('kernel.apparmor_restrict_unprivileged_userns')) === 1;
      const off = host.number(path('kernel.unprivileged_userns_clone')) === 0;
      return off || restricted ? 0 : most;
    },
    judge: (most) => (most === 0 ? holds('not for every user') : weak('every user may make them')),
    remedy: 'sysctl -w user.max_user_namespaces=0, if no containers need them',
  }),
  sysctl({
    id: 'unprivileged-bpf',
    what: 'programs of any user in the kernel are a way to its memory',
    names: ['kernel.unprivileged_bpf_disabled'],
    least: 1,
  }),
  sysctl({
    id: 'perf-events',
    what: 'counters of the kernel and of other processes tell what they do',
    names: ['kernel.perf_event_paranoid'],
    least: 2,
  }),
  sysctl({
    id: 'kernel-log',
    what: 'the kernel’s log tells addresses, and what other machines do',
    names: ['kernel.dmesg_restrict'],
    least: 1,
  }),
  sysctl({
    id: 'kernel-pointers',
    what: 'the kernel’s addresses in /proc are half of an attack on it',
    names: ['kernel.kptr_restrict'],
    least: 1,
  }),
  sysctl({
    id: 'address-randomisation',
    what: 'a monitor that lies elsewhere each time is harder to take over',
    names: ['kernel.randomize_va_space'],
    least: 2,
  }),
  sysctl({
    id: 'ptrace',
    what: 'processes of one user are not to read each other’s machines',
    names: ['kernel.yama.ptrace_scope'],
    least: 1,
  }),
  sysctl({
    id: 'links',
    what: 'links that others put into /tmp are not to be followed there',
    names: ['fs.protected_symlinks', 'fs.protected_hardlinks'],
    least: 1,
  }),
  sysctl({
    id: 'planted-files',
    what: 'FIFOs and files that others put into /tmp are not to be written to',
    names: ['fs.protected_fifos', 'fs.protected_regular'],
    least: 1,
  }),
];
