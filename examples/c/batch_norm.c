/* BatchNorm with leaky ReLU, forward and backward, from C.
 *
 *   cc batch_norm.c $(python -m fusednn --includes) $(python -m fusednn --libs) -lm -o batch_norm && ./batch_norm
 */
#include <fusednn/fusednn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 64, CHANNELS = 10 };

static void require(fnn_status status) {
  if (status == FNN_SUCCESS) return;
  fprintf(stderr, "%s\n", fnn_last_error());
  exit(1);
}

/* A view of float32 numbers in C order. */
static fnn_tensor view(float* data, const int64_t* shape, int32_t ndim) {
  const fnn_tensor tensor = {data, shape, NULL, ndim, FNN_FLOAT32, FNN_CPU, 0, 0};
  return tensor;
}

int main(void) {
  static float x[ROWS * CHANNELS], y[ROWS * CHANNELS], grad[ROWS * CHANNELS], grad_x[ROWS * CHANNELS];
  float gamma[CHANNELS], beta[CHANNELS], mean[CHANNELS], inv_std[CHANNELS], grad_gamma[CHANNELS], grad_beta[CHANNELS];
  const int64_t rows_shape[] = {ROWS, CHANNELS};
  const int64_t channels_shape[] = {CHANNELS};
  if (fnn_abi_version() != FNN_ABI_VERSION) {
    fprintf(stderr, "compiled for ABI %d, the library has %d\n", FNN_ABI_VERSION, (int)fnn_abi_version());
    return 1;
  }
  for (int c = 0; c < CHANNELS; ++c) {
    gamma[c] = 1.0f;
    beta[c] = 0.0f;
  }
  for (int i = 0; i < ROWS * CHANNELS; ++i) {
    x[i] = 3.0f + 2.0f * sinf((float)i);
    grad[i] = cosf((float)i);
  }

  fnn_batch_norm_options options = {sizeof options, 1, 1e-5, 0.1, 0.1, 1};
  fnn_tensor tx = view(x, rows_shape, 2), ty = view(y, rows_shape, 2);
  fnn_tensor tgrad = view(grad, rows_shape, 2), tgrad_x = view(grad_x, rows_shape, 2);
  fnn_tensor tgamma = view(gamma, channels_shape, 1), tbeta = view(beta, channels_shape, 1);
  fnn_tensor tmean = view(mean, channels_shape, 1), tinv_std = view(inv_std, channels_shape, 1);
  fnn_tensor tgrad_gamma = view(grad_gamma, channels_shape, 1), tgrad_beta = view(grad_beta, channels_shape, 1);
  require(fnn_batch_norm_forward(&tx, &tgamma, &tbeta, NULL, NULL, &options, &ty, &tmean, &tinv_std));
  require(fnn_batch_norm_backward(&tgrad, &tx, &tgamma, &tbeta, &tmean, &tinv_std, &options, &tgrad_x, &tgrad_gamma,
                                  &tgrad_beta));

  /* What x has in common with all its rows has no influence: gradients with respect to x sum to zero. */
  double largest = 0;
  for (int c = 0; c < CHANNELS; ++c) {
    double sum = 0;
    for (int r = 0; r < ROWS; ++r) sum += grad_x[r * CHANNELS + c];
    largest = fmax(largest, fabs(sum));
  }
  printf("fusednn %s, %s: mean of the first channel %.4f, gradients sum to %.0e\n", fnn_version(),
         fnn_instruction_set(), mean[0], largest);

  /* A mistake is told, and changes nothing. */
  options.eps = -1;
  if (fnn_batch_norm_forward(&tx, &tgamma, &tbeta, NULL, NULL, &options, &ty, &tmean, &tinv_std) == FNN_SUCCESS) {
    return 1;
  }
  printf("refused: %s\n", fnn_last_error());
  return largest < 1e-4 ? 0 : 1;
}
