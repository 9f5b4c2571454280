import { expect, test } from 'vitest';
import {
  featureWord,
  refuseFeatures,
  TRANSPORT_FEATURES,
  VIRTIO_F_VERSION_1,
  withFeatureWord,
} from '../../../src/virtio/features.js';

test('featureWord() and withFeatureWord() cut features into words', () => {
  const features = 0x1234_5678_9abc_def0n;
  expect([0, 1, 2, 0xffff_ffff].map((index) => featureWord(features, index))).toEqual([
    0x9abc_def0, 0x1234_5678, 0, 0,
  ]);
  expect(withFeatureWord(withFeatureWord(0n, 0, 0x9abc_def0), 1, 0x1234_5678)).toBe(features);
  expect(withFeatureWord(features, 1, 0)).toBe(0x9abc_def0n);
});

test('refuseFeatures() refuses what was not offered (2.2.1) and the lack of VERSION_1 (6.2)', () => {
  expect(refuseFeatures(TRANSPORT_FEATURES, VIRTIO_F_VERSION_1)).toBeUndefined();
  expect(refuseFeatures(TRANSPORT_FEATURES, TRANSPORT_FEATURES)).toBeUndefined();
  expect(refuseFeatures(TRANSPORT_FEATURES, VIRTIO_F_VERSION_1 | 1n)).toMatch(/0x1 were not offered/);
  expect(refuseFeatures(TRANSPORT_FEATURES, 0n)).toMatch(/VERSION_1/);
});
