/**
 * Feature bits and their negotiation.
 *
 * @spec virtio-1.3 2.2  Feature bits           #yes
 * @spec virtio-1.3 6    Reserved feature bits  #partial  VERSION_1, INDIRECT_DESC and EVENT_IDX; no others are offered
 */

/** Descriptors that point to tables of descriptors. */
export const VIRTIO_F_INDIRECT_DESC = 1n << 28n;
/** Notifications are asked for by index, not by a flag. */
export const VIRTIO_F_EVENT_IDX = 1n << 29n;
/** Not a legacy device. */
export const VIRTIO_F_VERSION_1 = 1n << 32n;

/** What every device offers, by way of its transport and queues. */
export const TRANSPORT_FEATURES = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;

const WORD_BITS = 32n;
const WORD_MASK = 0xffff_ffffn;

/** Word `index` (of 32 bits) of a set of features; 0 beyond the 64 that exist. */
export function featureWord(features: bigint, index: number): number {
  return index > 1 ? 0 : Number((features >> (WORD_BITS * BigInt(index))) & WORD_MASK);
}

/** `features` with word `index`, 0 or 1, replaced. */
export function withFeatureWord(features: bigint, index: 0 | 1, word: number): bigint {
  const shift = WORD_BITS * BigInt(index);
  return (features & ~(WORD_MASK << shift)) | (BigInt(word >>> 0) << shift);
}

/** Why the device cannot work with what the driver accepted, or undefined if it can. */
export function refuseFeatures(offered: bigint, accepted: bigint): string | undefined {
  // virtio 1.3, 2.2.1 MUST NOT (driver): accept a feature that was not offered.
  if ((accepted & ~offered) !== 0n)
    return `features 0x${(accepted & ~offered).toString(16)} were not offered`;
  // virtio 1.3, 6.2: a device may fail to operate further if VERSION_1 is not accepted.
  if ((accepted & VIRTIO_F_VERSION_1) === 0n) return 'VIRTIO_F_VERSION_1 was not accepted';
  return undefined;
}
