# Decides whether the CUDA kernels are built, and remembers why; the reason is printed here and by `fusednn info`.
#
# Sets FUSEDNN_CUDA_BUILD (ON or OFF) and FUSEDNN_CUDA_REASON.

find_program(FUSEDNN_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin)
find_program(FUSEDNN_NVIDIA_SMI nvidia-smi)

set(FUSEDNN_CUDA_BUILD OFF)
set(fusednn_gpu_found FALSE)
if(FUSEDNN_NVIDIA_SMI)
  execute_process(
    COMMAND ${FUSEDNN_NVIDIA_SMI} -L RESULT_VARIABLE status OUTPUT_VARIABLE gpus ERROR_QUIET
  )
  if(status EQUAL 0 AND gpus MATCHES "GPU 0")
    set(fusednn_gpu_found TRUE)
  endif()
endif()

if(FUSEDNN_CUDA STREQUAL "ON")
  if(NOT FUSEDNN_NVCC)
    message(FATAL_ERROR "FUSEDNN_CUDA=ON needs the CUDA toolkit, but nvcc was not found. Put it on PATH, set CUDA_HOME, "
                        "or build with FUSEDNN_CUDA=OFF.")
  endif()
  message(FATAL_ERROR "FUSEDNN_CUDA=ON: this version of fusednn has no CUDA kernels yet. Build with FUSEDNN_CUDA=AUTO "
                      "or OFF.")
elseif(FUSEDNN_CUDA STREQUAL "OFF")
  set(FUSEDNN_CUDA_REASON "switched off at build time (FUSEDNN_CUDA=OFF)")
elseif(FUSEDNN_CUDA STREQUAL "AUTO")
  if(NOT FUSEDNN_NVCC)
    set(FUSEDNN_CUDA_REASON "no CUDA toolkit (nvcc) was found at build time")
  elseif(NOT fusednn_gpu_found)
    set(FUSEDNN_CUDA_REASON "no GPU was found at build time")
  else()
    set(FUSEDNN_CUDA_REASON "this version of fusednn has no CUDA kernels yet")
  endif()
else()
  message(FATAL_ERROR "FUSEDNN_CUDA must be AUTO, ON or OFF. Received: FUSEDNN_CUDA=${FUSEDNN_CUDA}")
endif()

message(STATUS "fusednn: CUDA ${FUSEDNN_CUDA_BUILD}: ${FUSEDNN_CUDA_REASON}")
