/** Images in the stores of podman and docker on this host, copied out of them by skopeo. */
import type { TsvmError } from '../../errors.js';
import { imageError } from '../image-error.js';
import { outputOf } from '../program.js';
import { LOCAL_STORE } from '../reference.js';

export const SKOPEO = { name: 'skopeo', debianPackage: 'skopeo' } as const;
export const isInLocalStore = (text: string): boolean => LOCAL_STORE.test(text);

/** Copies an image as an OCI layout into a folder that is made. @throws TsvmError `TSVM_HOST` if skopeo is not installed */
export async function copyFromLocalStore(text: string, folder: string): Promise<void> {
  // Whose images may run is for podman and docker to say, which have them already.
  const words = ['--insecure-policy', 'copy', '--quiet', text, `oci:${folder}`];
  const refused = (complaint: string): TsvmError =>
    imageError(
      `image ${text}: ${sentenceOf(complaint)}`,
      'podman images and docker images list those that are there',
    );
  await outputOf(SKOPEO, words, refused);
}

/** Sentence in a line that skopeo logs (`time="..." level=fatal msg="..."`); another line is left as it is. */
function sentenceOf(line: string): string {
  const [, quoted] = /^time="[^"]*" level=\w+ msg=("(?:[^"\\]|\\.)*")$/.exec(line) ?? [];
  if (quoted === undefined) return line;
  try {
    return JSON.parse(quoted) as string;
  } catch {
    return line; // Go's escapes are not all JSON's
  }
}
