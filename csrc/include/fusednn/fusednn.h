/* fusednn: fused BatchNorm, leaky ReLU and optimizer kernels. The C API, the one header that other programs include.
 *
 * Every function returns an fnn_status; on failure fnn_last_error() holds one sentence that names the argument, what
 * it must be and what was received, and no output was written. Tensors are described, never owned. Lists hold fewer than
 * 2^31. Functions may be called from several threads at once; a call returns when its outputs are complete.
 */
#ifndef FUSEDNN_FUSEDNN_H
#define FUSEDNN_FUSEDNN_H

#include <stddef.h>
#include <stdint.h>

#define FNN_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

#define FNN_ABI_VERSION 1

typedef enum fnn_status {
  FNN_SUCCESS = 0,
  FNN_ERROR_TYPE = 1,        /* a wrong data type */
  FNN_ERROR_VALUE = 2,       /* a wrong shape, layout, number or overlap */
  FNN_ERROR_UNSUPPORTED = 3, /* understood, but not available in this build */
  FNN_ERROR_MEMORY = 4,      /* the workspace could not be allocated */
  FNN_ERROR_INTERNAL = 5,    /* a defect of the library */
  FNN_ERROR_DEVICE = 6       /* no GPU, no driver, one that is too old, or a kernel that failed */
} fnn_status;

typedef enum fnn_dtype { FNN_FLOAT32 = 0, FNN_FLOAT64 = 1, FNN_FLOAT16 = 2, FNN_BFLOAT16 = 3 } fnn_dtype;

typedef enum fnn_device_type { FNN_CPU = 0, FNN_CUDA = 1 } fnn_device_type;

enum { FNN_READ_ONLY = 1 }; /* bits of fnn_tensor.flags */

/* A view of an array of at most 64 axes, with a length in `shape` for each. `strides` count elements; NULL means C order.
 * Data may be misaligned. */
typedef struct fnn_tensor {
  void* data;
  const int64_t* shape;
  const int64_t* strides;
  int32_t ndim;
  int32_t dtype;       /* fnn_dtype */
  int32_t device_type; /* fnn_device_type */
  int32_t device_id;
  uint32_t flags;
} fnn_tensor;

/* From a DLTensor of DLPack (https://dmlc.github.io/dlpack), whose header is not needed here: `dl_tensor` points to one,
 * `flags` are those of the DLManagedTensorVersioned that it is part of, else 0. Of floats on the CPU (kDLCUDAHost, too)
 * or an NVIDIA GPU (kDLCUDAManaged, too). Shape and strides stay the DLTensor's own, which must live as long as *tensor
 * is used. Nothing waits for another stream. 8-bit codes have no type in DLPack. *tensor is written on success only. */
FNN_API fnn_status fnn_tensor_from_dlpack(const void* dl_tensor, uint64_t flags, fnn_tensor* tensor);

/* ---- The library ---- */

FNN_API int32_t fnn_abi_version(void);
/* The same, for hosts that load several libraries and look each up by its full name. */
FNN_API int32_t fusednn_abi_version(void);
FNN_API const char* fnn_version(void);
/* The calling thread's last failure; valid until its next call. */
FNN_API const char* fnn_last_error(void);
/* Reads the environment (FUSEDNN_FORCE_ISA, FUSEDNN_NUM_THREADS) and chooses the instruction set. Called on first use
 * by everything else; call it yourself to learn of a bad setting early. */
FNN_API fnn_status fnn_initialize(void);
/* The instruction set in use, and (index 0, 1, ... until NULL) all that this machine can run, the best first. */
FNN_API const char* fnn_instruction_set(void);
FNN_API const char* fnn_available_instruction_set(int32_t index);
/* "ON" or "OFF", and why. */
FNN_API const char* fnn_cuda_build(void);
FNN_API const char* fnn_cuda_reason(void);
FNN_API const char* fnn_compiler(void);

FNN_API fnn_status fnn_set_num_threads(int32_t n);
FNN_API int32_t fnn_get_num_threads(void);
/* Where the number came from: "set_num_threads", "FUSEDNN_NUM_THREADS", "OMP_NUM_THREADS" or "affinity". */
FNN_API const char* fnn_num_threads_source(void);
/* `follower` is called with the number of threads now, and whenever it changes. NULL ends that. It must not call back. */
FNN_API fnn_status fnn_follow_num_threads(void (*follower)(int n));

/* Runs job(0, jobs, context), job(1, jobs + size, context), ... of `count` jobs and returns when all are done, whatever
 * `wait` says. All run at the same time, each on a thread of its own, so that they may wait for one another: on the
 * kernels' threads, or on new ones where these are too few or at work. Calls from several threads take turns. The
 * signature is that of OpenBLAS' openblas_set_threads_callback_function, with which its products run on our threads. */
FNN_API void fnn_run_jobs(int wait, void (*job)(int index, void* data, int context), int count, size_t size, void* jobs,
                          int context);
/* Runs task(0, data), task(1, data), ... of `count` tasks, which must not wait for one another, and returns when all are
 * done: on as many of the kernels' threads as are free, else one after the other. */
FNN_API void fnn_run_tasks(void (*task)(int index, void* data), int count, void* data);

/* ---- NVIDIA GPUs ----
 * Arrays whose device_type is FNN_CUDA are computed on their device, all of one call on the same. The kernels are in
 * libfusednn_cuda.so, which is loaded on the first such call from beside this library, or from the path in the
 * environment variable FUSEDNN_CUDA_LIBRARY. Calls enqueue work on the calling thread's stream and return; per-channel
 * values that cannot be looked at without waiting (a negative variance, a zero gamma) are not checked there. */

/* Device memory of the caller's, for workspaces. `allocate` returns NULL where there is none. */
typedef struct fnn_cuda_allocator {
  void* (*allocate)(void* context, size_t bytes, int32_t device_id, void* stream);
  void (*release)(void* context, void* memory, size_t bytes, int32_t device_id, void* stream);
  void* context;
} fnn_cuda_allocator;

typedef struct fnn_cuda_settings {
  size_t size;                   /* sizeof(fnn_cuda_settings) */
  void* stream;                  /* cudaStream_t; NULL is the legacy default stream */
  fnn_cuda_allocator workspace;  /* `allocate` NULL: the library keeps workspaces of its own */
  int32_t spare_multiprocessors; /* that kernels which wait for one another leave to others, such as NCCL's */
} fnn_cuda_settings;

/* For the calling thread's later calls; NULL restores the defaults. */
FNN_API fnn_status fnn_cuda_set(const fnn_cuda_settings* settings);
/* Frees the device memory that the library keeps for later calls, as far as no list of an optimizer and no CUDA graph uses
 * it, and waits for the devices meanwhile. *bytes (may be NULL) is how much it was. */
FNN_API fnn_status fnn_cuda_release_memory(int64_t* bytes);
/* How many devices there are. Fails with the reason where none can be used. */
FNN_API fnn_status fnn_cuda_device_count(int32_t* count);
/* The device that memory is of; -1 where CUDA knows nothing of it. */
FNN_API fnn_status fnn_cuda_device_of(const void* pointer, int32_t* device_id);
/* What `stream` is given from now on waits for what `other` was given before; both are of this device. Returns at once. */
FNN_API fnn_status fnn_cuda_wait(int32_t device_id, void* stream, void* other);
/* The newest CUDA that the driver supports, 0 where there is no driver, and the one that the kernels were built with;
 * 13000 is 13.0. Needs the kernels' library, no GPU. */
FNN_API fnn_status fnn_cuda_versions(int32_t* driver, int32_t* runtime);
/* `name` has room for `name_size` bytes; `capability` is 90 for 9.0. */
FNN_API fnn_status fnn_cuda_describe(int32_t device_id, char* name, size_t name_size, int32_t* capability,
                                     int32_t* multiprocessors, int64_t* memory);

/* ---- What the calling program lends ----
 * A context holds what a program wants the library to use instead of its own: threads, memory for workspaces, a CUDA
 * stream. It serves the calls of one thread at a time, the one that chose it last, and never changes a result.
 * Callbacks must return normally and call nothing of this library. */

typedef struct fnn_context fnn_context;

typedef void (*fnn_task)(const void* data, int64_t index);

typedef struct fnn_context_settings {
  size_t size; /* sizeof(fnn_context_settings) */
  /* Calls task(data, i) for each i from 0 to count - 1, once, in any order and on any threads, and returns when all of
   * them have returned. NULL: the library's threads. */
  void (*parallel_for)(void* context, int64_t count, fnn_task task, const void* data);
  void* parallel_context;
  int32_t num_threads; /* that `parallel_for` has, from 1 to 4096; 0 without it */
  /* `allocate` returns memory that is aligned to `alignment` bytes, or NULL where there is none. It is kept for later
   * calls and released when more is needed or the context is destroyed. NULL: the library's memory. */
  void* (*allocate)(void* context, size_t bytes, size_t alignment);
  void (*release)(void* context, void* memory, size_t bytes);
  void* memory_context;
  const fnn_cuda_settings* cuda; /* as for fnn_cuda_set, which it replaces meanwhile; copied. NULL: left as they are */
} fnn_context_settings;

/* *context is written on success only. */
FNN_API fnn_status fnn_context_create(const fnn_context_settings* settings, fnn_context** context);
/* For the calling thread's later calls, until it chooses another or ends; NULL: the library's own. Fails where another
 * thread uses the context. */
FNN_API fnn_status fnn_context_use(fnn_context* context);
/* The calling thread may be using it, no other may. NULL is allowed. */
FNN_API fnn_status fnn_context_destroy(fnn_context* context);

/* ---- Leaky ReLU: y = x where x > 0, else negative_slope * x ---- */

FNN_API fnn_status fnn_leaky_relu(const fnn_tensor* x, double negative_slope, const fnn_tensor* y);
FNN_API fnn_status fnn_leaky_relu_backward(const fnn_tensor* grad, const fnn_tensor* x, double negative_slope,
                                           const fnn_tensor* grad_x);

/* ---- BatchNorm with leaky ReLU ----
 * x, y, grad and grad_x have one shape, one data type and one dense memory layout (any order of the axes).
 * Per-channel arrays are C-contiguous vectors, float32, or float64 where x is float64. gamma and beta may be NULL. */

typedef struct fnn_batch_norm_options {
  size_t size; /* sizeof(fnn_batch_norm_options) */
  int64_t channel_axis;
  double eps;
  double momentum;       /* running <- (1 - momentum) running + momentum batch */
  double negative_slope; /* 1 is no activation, 0 is ReLU */
  int32_t unbiased_running_var;
} fnn_batch_norm_options;

/* running_mean and running_var: both or neither (NULL). */
FNN_API fnn_status fnn_batch_norm_forward(const fnn_tensor* x, const fnn_tensor* gamma, const fnn_tensor* beta,
                                          const fnn_tensor* running_mean, const fnn_tensor* running_var,
                                          const fnn_batch_norm_options* options, const fnn_tensor* y,
                                          const fnn_tensor* mean, const fnn_tensor* inv_std);
FNN_API fnn_status fnn_batch_norm_backward(const fnn_tensor* grad, const fnn_tensor* x, const fnn_tensor* gamma,
                                           const fnn_tensor* beta, const fnn_tensor* mean, const fnn_tensor* inv_std,
                                           const fnn_batch_norm_options* options, const fnn_tensor* grad_x,
                                           const fnn_tensor* grad_gamma, const fnn_tensor* grad_beta);
/* The in-place form: x was overwritten by y. Needs negative_slope > 0, and each gamma to be so large beside beta that
 * half of the digits of the normalised input can be recovered: |beta / gamma| <= 1 / sqrt(epsilon of y's type), which is
 * 2896 in float32 and 11 in bfloat16. Otherwise an error, but on a GPU, where values are not looked at. */
FNN_API fnn_status fnn_batch_norm_backward_from_output(const fnn_tensor* grad, const fnn_tensor* y,
                                                       const fnn_tensor* gamma, const fnn_tensor* beta,
                                                       const fnn_tensor* inv_std, const fnn_batch_norm_options* options,
                                                       const fnn_tensor* grad_x, const fnn_tensor* grad_gamma,
                                                       const fnn_tensor* grad_beta);
/* Ask before x is overwritten: the first channel that it would be an error for, or -1. */
FNN_API fnn_status fnn_batch_norm_unrecoverable(const fnn_tensor* x, const fnn_tensor* gamma, const fnn_tensor* beta,
                                                const fnn_batch_norm_options* options, int64_t* channel);
FNN_API fnn_status fnn_batch_norm_inference(const fnn_tensor* x, const fnn_tensor* gamma, const fnn_tensor* beta,
                                            const fnn_tensor* running_mean, const fnn_tensor* running_var,
                                            const fnn_batch_norm_options* options, const fnn_tensor* y);
FNN_API fnn_status fnn_batch_norm_inference_backward(const fnn_tensor* grad, const fnn_tensor* x,
                                                     const fnn_tensor* gamma, const fnn_tensor* beta,
                                                     const fnn_tensor* running_mean, const fnn_tensor* running_var,
                                                     const fnn_batch_norm_options* options, const fnn_tensor* grad_x,
                                                     const fnn_tensor* grad_gamma, const fnn_tensor* grad_beta);

/* The stages, for statistics that span several arrays or processes. */
FNN_API fnn_status fnn_batch_norm_statistics(const fnn_tensor* x, const fnn_batch_norm_options* options,
                                             const fnn_tensor* mean, const fnn_tensor* m2, int64_t* count);
FNN_API fnn_status fnn_merge_statistics(int64_t parts, const fnn_tensor* means, const fnn_tensor* m2s,
                                        const int64_t* counts, const fnn_tensor* mean, const fnn_tensor* m2,
                                        int64_t* count);
FNN_API fnn_status fnn_batch_norm_apply(const fnn_tensor* x, const fnn_tensor* mean, const fnn_tensor* inv_std,
                                        const fnn_tensor* gamma, const fnn_tensor* beta,
                                        const fnn_batch_norm_options* options, const fnn_tensor* y);
FNN_API fnn_status fnn_batch_norm_backward_reduce(const fnn_tensor* grad, const fnn_tensor* x, const fnn_tensor* gamma,
                                                  const fnn_tensor* beta, const fnn_tensor* mean,
                                                  const fnn_tensor* inv_std, const fnn_batch_norm_options* options,
                                                  const fnn_tensor* sum_grad, const fnn_tensor* sum_grad_xhat);
FNN_API fnn_status fnn_batch_norm_backward_apply(const fnn_tensor* grad, const fnn_tensor* x, const fnn_tensor* gamma,
                                                 const fnn_tensor* beta, const fnn_tensor* mean,
                                                 const fnn_tensor* inv_std, const fnn_tensor* sum_grad,
                                                 const fnn_tensor* sum_grad_xhat, int64_t count,
                                                 const fnn_batch_norm_options* options, const fnn_tensor* grad_x);

/* ---- Optimizer steps ----
 * One entry for all optimizers. fnn_optimizer_kind finds one by name ("sgd", "adagrad", "rmsprop", "adam", "adamax",
 * "nadam"; -1: none); the functions below it list the hyper-parameters and the states of a kind, in the order of the
 * arrays of fnn_optimizer_options and fnn_optimizer_tensors (NULL after the last). */

enum { FNN_MAX_HYPERPARAMETERS = 8, FNN_MAX_STATES = 4 };

/* Whose formula; a pair of optimizer and convention that its framework does not have is refused. */
typedef enum fnn_convention {
  FNN_TORCH = 0,
  FNN_KERAS = 1,
  FNN_TF1 = 2,
  FNN_OPTAX = 3,
  FNN_ONNX = 4,
  FNN_MLX = 5
} fnn_convention;

FNN_API int32_t fnn_optimizer_kind(const char* name);
FNN_API const char* fnn_optimizer_name(int32_t kind);
FNN_API const char* fnn_optimizer_hyperparameter(int32_t kind, int32_t index);
FNN_API const char* fnn_optimizer_state(int32_t kind, int32_t index);
FNN_API const char* fnn_convention_name(int32_t convention);

/* Numbers in the GPU's memory in place of the host's, so that a captured step can be replayed: each may be NULL. */
typedef struct fnn_device_scalars {
  const float* lr;
  const float* grad_scale;
  float* step;            /* the updates made so far, of every tensor: one is added before it is used */
  const float* found_inf; /* not zero: nothing is changed, step neither */
  int32_t* stepped;       /* receives 1, or 0 where found_inf or skip_nonfinite left everything as it was */
} fnn_device_scalars;

typedef struct fnn_optimizer_options {
  size_t size; /* sizeof(fnn_optimizer_options) */
  int32_t convention;
  uint32_t given; /* bit i: hyperparameters[i] was given; otherwise the convention's own value is taken */
  double hyperparameters[FNN_MAX_HYPERPARAMETERS];
  double weight_decay;
  int32_t decoupled_weight_decay; /* 0 no, 1 yes, -1 as the convention does */
  int32_t maximize;
  double grad_scale;    /* gradients are divided by it */
  double clip_value;    /* at most one of the three is finite; infinity: off */
  double max_norm_each; /* per tensor */
  double max_norm;      /* over the whole list */
  int32_t skip_nonfinite;
  int32_t stochastic_rounding; /* params, all bfloat16, and bfloat16 states and averages are rounded at random */
  double ema_momentum;         /* 0 where there is no ema */
  /* The random bits depend on it, on the step and on the place in the lists; 0 without stochastic_rounding. */
  uint64_t stochastic_rounding_seed;
  const fnn_device_scalars* device_scalars; /* NULL: none; for arrays on a GPU alone */
} fnn_optimizer_options;

/* States may be 8-bit codes with a float32 scale for each FNN_CODE_BLOCK elements in the order of memory. Their dtype
 * is one of these instead of an fnn_dtype: signed codes for averages of gradients, unsigned ones for averages of
 * squares. They are rounded at random (seed 0 without stochastic_rounding). All bytes and scales 0 are a state of 0. */
enum { FNN_CODE_BLOCK = 256 };
typedef enum fnn_codes { FNN_SIGNED_CODES = 16, FNN_UNSIGNED_CODES = 17 } fnn_codes;

/* Arrays of `count` tensors; all but params and grads may be NULL. A state that a flag asks for (grad_avgs of
 * rmsprop, max_exp_avg_sqs of adam) must be NULL where the flag is 0; momentum_buffers stay as they are at momentum 0. */
typedef struct fnn_optimizer_tensors {
  size_t size; /* sizeof(fnn_optimizer_tensors) */
  int64_t count;
  const fnn_tensor* params;
  const fnn_tensor* grads;
  const fnn_tensor* states[FNN_MAX_STATES];
  const fnn_tensor* ema;
  const fnn_tensor* low_precision_copies;
  const int64_t* steps; /* the number of this update, from 1 (FNN_ONNX: from 0): one, or one per tensor */
  int64_t step_count;   /* 1 or count */
  /* For states that are codes: contiguous vectors, float32, one number per FNN_CODE_BLOCK elements or part thereof. The
   * entries of other states are ignored; NULL where no state is codes. */
  const fnn_tensor* state_scales[FNN_MAX_STATES];
} fnn_optimizer_tensors;

/* *stepped (may be NULL) is 0 where skip_nonfinite met a non-finite gradient and nothing was changed; on a GPU, where
 * that is known to the device alone, -1. */
FNN_API fnn_status fnn_optimizer_step(int32_t kind, const fnn_optimizer_options* options,
                                      const fnn_optimizer_tensors* tensors, int32_t* stepped);
/* For the same lists step after step: checking many small arrays takes longer than updating them. A plan holds lists
 * that are checked, with copies of all that `tensors` points to but the arrays' own memory; `tensors->steps` is not
 * read. It is good for as long as that memory keeps its address, size and type, whatever numbers it holds, and for one
 * step at a time: several threads use a plan each. fnn_optimizer_step is a plan of one step. */
typedef struct fnn_optimizer_plan fnn_optimizer_plan;

/* *plan is written on success only. */
FNN_API fnn_status fnn_optimizer_plan_create(int32_t kind, const fnn_optimizer_tensors* tensors,
                                             fnn_optimizer_plan** plan);
/* Other gradients from the next step on, one for each of the plan's parameters. They alone are checked, as at first; where
 * one is refused the plan keeps those that it has. */
FNN_API fnn_status fnn_optimizer_plan_set_grads(fnn_optimizer_plan* plan, const fnn_tensor* grads);
/* `steps` and `step_count` as in fnn_optimizer_tensors. */
FNN_API fnn_status fnn_optimizer_plan_step(fnn_optimizer_plan* plan, const fnn_optimizer_options* options,
                                           const int64_t* steps, int64_t step_count, int32_t* stepped);
/* Fails as that step would, and changes nothing: several lists are then stepped all or none. */
FNN_API fnn_status fnn_optimizer_plan_check(fnn_optimizer_plan* plan, const fnn_optimizer_options* options,
                                            const int64_t* steps, int64_t step_count);
/* NULL is allowed. */
FNN_API void fnn_optimizer_plan_destroy(fnn_optimizer_plan* plan);

/* From codes to float32 (`values` has their shape and memory layout), and back, to the nearest code. */
FNN_API fnn_status fnn_codes_to_float(const fnn_tensor* codes, const fnn_tensor* scales, const fnn_tensor* values);
FNN_API fnn_status fnn_codes_from_float(const fnn_tensor* values, const fnn_tensor* codes, const fnn_tensor* scales);
/* sqrt of the sum of squares over all arrays, accumulated in double. */
FNN_API fnn_status fnn_global_norm(int64_t count, const fnn_tensor* arrays, double* norm);

/* ---- Passes over memory that compute next to nothing, to measure kernels against ----
 * Each element of `inputs`, and of `updated`, which is also written, is read once; the running sum goes to `output`
 * (may be NULL), past the caches where `non_temporal`, and, halved, back to `updated`. One or two inputs; with updated
 * arrays one, and no output; with a single updated array none or one. All are float32 vectors of one length, a
 * multiple of 64, on a 64-byte boundary, on one device. On a GPU `non_temporal` makes what is read and written the first
 * to leave the caches. */
FNN_API fnn_status fnn_stream(int32_t input_count, const fnn_tensor* inputs, int32_t updated_count,
                              const fnn_tensor* updated, const fnn_tensor* output, int32_t non_temporal);

#ifdef __cplusplus
}
#endif
#endif /* FUSEDNN_FUSEDNN_H */
