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
  set(FUSEDNN_CUDA_BUILD ON)
elseif(FUSEDNN_CUDA STREQUAL "OFF")
  set(FUSEDNN_CUDA_REASON "switched off at build time (FUSEDNN_CUDA=OFF)")
elseif(FUSEDNN_CUDA STREQUAL "AUTO")
  if(NOT FUSEDNN_NVCC)
    set(FUSEDNN_CUDA_REASON "no CUDA toolkit (nvcc) was found at build time")
  elseif(NOT fusednn_gpu_found)
    set(FUSEDNN_CUDA_REASON "no GPU was found at build time")
  else()
    set(FUSEDNN_CUDA_BUILD ON)
  endif()
else()
  message(FATAL_ERROR "FUSEDNN_CUDA must be AUTO, ON or OFF. Received: FUSEDNN_CUDA=${FUSEDNN_CUDA}")
endif()

if(FUSEDNN_CUDA_BUILD)
  # One compiled form for each capability that has one of its own; PTX of 10.0 for all that come later.
  set(FUSEDNN_CUDA_ARCHITECTURES "75-real;80-real;90-real;100;120-real" CACHE STRING "CUDA architectures to build for")
  set(CMAKE_CUDA_COMPILER ${FUSEDNN_NVCC})
  enable_language(CUDA)
  list(JOIN FUSEDNN_CUDA_ARCHITECTURES ", " fusednn_architectures)
  set(FUSEDNN_CUDA_REASON "nvcc ${CMAKE_CUDA_COMPILER_VERSION}, for ${fusednn_architectures}")
endif()

message(STATUS "fusednn: CUDA ${FUSEDNN_CUDA_BUILD}: ${FUSEDNN_CUDA_REASON}")
