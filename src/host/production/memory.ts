/** Checks of memory: where a guest's bytes may end up, and what of them others can tell. */
import { check, type HostCheck, holds, unknown, weak } from './check.js';

const MM = 'sys/kernel/mm';

export const MEMORY_CHECKS: readonly HostCheck[] = [
  check({
    id: 'ksm',
    what: 'the time of a write tells a guest whether others have the same page',
    read: (host) => {
      const state = host.text(`${MM}/ksm/run`);
      // A kernel without it has the folder of the other settings.
      return state ?? (host.names(MM)?.includes('ksm') === false ? 'none' : undefined);
    },
    judge(state) {
      if (state === '1') return weak('equal pages are merged');
      if (state === 'none') return holds('this kernel has none');
      return state === '0' || state === '2' ? holds('off') : unknown(`it is ${state}`);
    },
    remedy: 'echo 2 > /sys/kernel/mm/ksm/run; systemctl disable --now ksmtuned',
  }),
  check({
    id: 'swap',
    what: 'swapped guest memory stays on the disk when the machine is gone',
    read: (host) => host.text('proc/swaps'),
    judge(text) {
      const [head = '', ...lines] = text.split('\n');
      if (!head.startsWith('Filename')) return unknown(`it is ${head}`);
      const areas = lines.map((line) => line.split(/\s/)[0] ?? '');
      // Compressed memory stays memory.
      const onDisk = areas.filter((area) => area !== '' && !area.startsWith('/dev/zram'));
      return onDisk.length === 0 ? holds('none on a disk') : weak(onDisk.join(', '));
    },
    remedy: 'swapoff -a, and its line out of /etc/fstab; or zram',
  }),
  check({
    id: 'huge-pages',
    what: '2 MiB in one piece help to find a chip’s neighbouring rows: Rowhammer',
    read: (host) => host.text(`${MM}/transparent_hugepage/enabled`),
    judge(text) {
      if (text.includes('[always]')) return weak('every process gets them unasked');
      return /\[(madvise|never)\]/.test(text)
        ? holds('only who asks gets them')
        : unknown(`they are ${text}`);
    },
    remedy: 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled',
  }),
  check({
    id: 'ecc',
    what: 'memory that corrects errors makes Rowhammer harder, and tells of it',
    read: (host) => {
      const controllers = host.names('sys/devices/system/edac/mc');
      return controllers?.filter((name) => /^mc\d+$/.test(name));
    },
    judge: (controllers) =>
      controllers.length > 0
        ? holds(`${controllers.length} memory controllers count errors`)
        : unknown('no memory controller counts errors'),
    remedy: 'use memory with ECC, and load the EDAC driver of its controller',
  }),
];
