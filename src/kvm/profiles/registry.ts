/** The host profiles there are. */
import type { HostFacts, HostProfile } from './profile.js';
import { pvm } from './pvm.js';

const none: HostProfile = {
  name: 'none',
  summary: 'hardware virtualization (VT-x or SVM): nothing special is needed',
  detect: () => true,
  kernelParameters: [],
  limitations: [],
};

/** In the order in which they are tried; the last fits every host. */
export const hostProfiles: readonly HostProfile[] = [pvm, none];

/** The first profile that fits. */
export function detectProfile(facts: HostFacts): HostProfile {
  return hostProfiles.find((profile) => profile.detect(facts)) ?? none;
}
