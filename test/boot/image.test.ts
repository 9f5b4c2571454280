import { imageTests } from '../support/image-tests.js';

imageTests('vm');
