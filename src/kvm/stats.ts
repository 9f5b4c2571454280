/**
 * KVM's binary statistics (Documentation/virt/kvm/api.rst, 4.133): counters that the kernel keeps of a VM or vCPU.
 *
 * @spec kvm-api 4.133  KVM_GET_STATS_FD  #yes
 */

const HEADER_BYTES = 24;
const DESCRIPTOR_FIXED_BYTES = 16;

/** The first value of every counter, by name: `exits`, `insn_emulation`, `irq_injections`, ... */
export function decodeStats(bytes: Uint8Array): Map<string, number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stats = new Map<string, number>();
  if (bytes.length < HEADER_BYTES) return stats;
  const nameBytes = view.getUint32(4, true);
  const count = view.getUint32(8, true);
  const descriptors = view.getUint32(16, true);
  const data = view.getUint32(20, true);
  const stride = DESCRIPTOR_FIXED_BYTES + nameBytes;
  for (let i = 0; i < count; i++) {
    const at = descriptors + i * stride;
    const valueAt = data + view.getUint32(at + 8, true);
    const nameAt = at + DESCRIPTOR_FIXED_BYTES;
    const end = text.indexOf(0, nameAt);
    const name = text.toString('latin1', nameAt, end < 0 ? at + stride : Math.min(end, at + stride));
    stats.set(name, Number(view.getBigUint64(valueAt, true)));
  }
  return stats;
}
