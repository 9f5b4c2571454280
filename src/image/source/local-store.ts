/** Images in the stores of podman and docker on this host, copied out of them by skopeo. */
import type { TsvmError } from '../../errors.js';
import { imageError } from '../image-error.js';
import { outputOf } from '../program.js';

export const SKOPEO = { name: 'skopeo', debianPackage: 'skopeo' } as const;
/** Words of skopeo for them, before a name. */
const LOCAL = /^(containers-storage|docker-daemon):./;

export const isInLocalStore = (text: string): boolean => LOCAL.test(text);

/** Copies an image as an OCI layout into a folder that is made. @throws TsvmError `TSVM_HOST` if skopeo is not installed */
export async function copyFromLocalStore(text: string, folder: string): Promise<void> {
  // Whose images may run is for podman and docker to say, which have them already.
  const words = ['--insecure-policy', 'copy', '--quiet', text, `oci:${folder}`];
  const refused = (complaint: string): TsvmError =>
    imageError(`image ${text}: ${complaint}`, 'podman images and docker images list those that are there');
  await outputOf(SKOPEO, words, refused);
}
