import { imageTests } from '../support/image-tests.js';
import { skipAll } from '../support/skip.js';
import { notRoot } from '../support/skip-reasons.js';

skipAll(notRoot());
imageTests('container');
