/**
 * The device status field and every transition of it.
 *
 * @spec virtio-1.3 2.1  Device status field  #yes
 */

export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
export const VIRTIO_CONFIG_S_DRIVER = 2;
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
export const VIRTIO_CONFIG_S_NEEDS_RESET = 64;
export const VIRTIO_CONFIG_S_FAILED = 128;

/** Bits that the driver sets on its way up, in the only order that there is (virtio 1.3, 3.1.1). */
const STEPS: readonly number[] = [
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_DRIVER_OK,
];
const STEPS_MASK =
  VIRTIO_CONFIG_S_ACKNOWLEDGE |
  VIRTIO_CONFIG_S_DRIVER |
  VIRTIO_CONFIG_S_FEATURES_OK |
  VIRTIO_CONFIG_S_DRIVER_OK;

/** What the transport is asked and told on the way. */
export interface StatusActions {
  /** True if the device can work with what the driver accepted. */
  acceptFeatures(): boolean;
  /** The driver broke the order of steps, or took one back. The write has no effect. */
  refuse(): void;
}

/**
 * The status after the driver wrote `written`, which is not 0: that is a reset, and the transport's business.
 *
 * Several steps may come in one write; they are taken in order, up to the first that fails.
 */
export function writeStatus(current: number, written: number, actions: StatusActions): number {
  // A driver that gave up, or a device that did, is only ever left by a reset.
  if ((current & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET)) !== 0) {
    return current | (written & VIRTIO_CONFIG_S_FAILED);
  }
  if ((written & VIRTIO_CONFIG_S_FAILED) !== 0) return current | VIRTIO_CONFIG_S_FAILED;
  // virtio 1.3, 2.1.1 MUST NOT (driver): clear a status bit.
  if ((current & STEPS_MASK & ~written) !== 0) {
    actions.refuse();
    return current;
  }
  let status = current;
  for (const step of STEPS) {
    if ((status & step) !== 0) continue;
    if ((written & step) === 0) {
      // Nothing may follow a step that is missing.
      if ((written & STEPS_MASK & ~status) !== 0) actions.refuse();
      return status;
    }
    // virtio 1.3, 2.2.2: features that cannot be accepted fail FEATURES_OK, which the driver must read back.
    if (step === VIRTIO_CONFIG_S_FEATURES_OK && !actions.acceptFeatures()) return status;
    status |= step;
  }
  return status;
}
