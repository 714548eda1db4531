// A training loop in C++: two layers with BatchNorm and leaky ReLU between them, Adam, and threads of the program's own.
//
//   c++ -O2 -std=c++17 train.cpp $(python -m fusednn --includes) $(python -m fusednn --libs) -pthread -o train && ./train
//
// The network learns in which of four quarters of the plane a point lies, seen through 32 noisy features.
#include <fusednn/fusednn.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr int kRows = 1024, kFeatures = 32, kHidden = 256, kClasses = 4, kSteps = 80;

void require(fnn_status status) {
  if (status != FNN_SUCCESS) throw std::runtime_error(fnn_last_error());
}

// Numbers with a shape, and the view that the library takes.
struct Array {
  std::vector<int64_t> shape;
  std::vector<float> numbers;

  explicit Array(std::vector<int64_t> s) : shape(std::move(s)) {
    int64_t count = 1;
    for (const int64_t n : shape) count *= n;
    numbers.resize(static_cast<size_t>(count));
  }
  fnn_tensor view() {
    return {numbers.data(), shape.data(), nullptr, static_cast<int32_t>(shape.size()), FNN_FLOAT32, FNN_CPU, 0, 0};
  }
  float& operator()(int64_t row, int64_t column) { return numbers[static_cast<size_t>(row * shape[1] + column)]; }
};

// out = a b, the first or the second transposed. A program of this kind has a BLAS; this loop stands for it.
void multiply(Array& a, Array& b, Array& out, bool transpose_a = false, bool transpose_b = false) {
  const int64_t inner = transpose_a ? a.shape[0] : a.shape[1];
  for (int64_t i = 0; i < out.shape[0]; ++i) {
    for (int64_t j = 0; j < out.shape[1]; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < inner; ++k) sum += (transpose_a ? a(k, i) : a(i, k)) * (transpose_b ? b(j, k) : b(k, j));
      out(i, j) = sum;
    }
  }
}

// The program's threads, as the library is to use them; a program with a pool would call that.
struct Threads {
  int count;
  std::atomic<int64_t> tasks{0};

  static void run(void* self, int64_t count, fnn_task task, const void* data) {
    auto& threads = *static_cast<Threads*>(self);
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      for (int64_t i = next++; i < count; i = next++) task(data, i);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads.count; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    threads.tasks += count;
  }
};

// Softmax and cross-entropy: the mean loss; logits become their gradients.
double loss_and_gradients(Array& logits, const std::vector<int>& labels) {
  double loss = 0;
  for (int r = 0; r < kRows; ++r) {
    double sum = 0;
    for (int c = 0; c < kClasses; ++c) sum += std::exp(logits(r, c));
    loss += std::log(sum) - logits(r, labels[static_cast<size_t>(r)]);
    for (int c = 0; c < kClasses; ++c) {
      const double probability = std::exp(logits(r, c)) / sum;
      logits(r, c) = static_cast<float>((probability - (c == labels[static_cast<size_t>(r)])) / kRows);
    }
  }
  return loss / kRows;
}

int train() {
  std::mt19937 random(0);
  std::normal_distribution<float> normal;
  Array x({kRows, kFeatures}), mixing({2, kFeatures});
  std::vector<int> labels;
  for (float& n : mixing.numbers) n = normal(random);
  for (int r = 0; r < kRows; ++r) {
    const float a = normal(random), b = normal(random);
    labels.push_back((a > 0) + 2 * (b > 0));
    for (int f = 0; f < kFeatures; ++f) x(r, f) = a * mixing(0, f) + b * mixing(1, f) + 0.1f * normal(random);
  }

  Array first({kFeatures, kHidden}), gamma({kHidden}), beta({kHidden}), second({kHidden, kClasses});
  for (float& n : first.numbers) n = normal(random) * std::sqrt(2.0f / kFeatures);
  for (float& n : second.numbers) n = normal(random) * std::sqrt(2.0f / kHidden);
  for (float& n : gamma.numbers) n = 1;
  Array z({kRows, kHidden}), y({kRows, kHidden}), mean({kHidden}), inv_std({kHidden}), logits({kRows, kClasses});
  Array grad_y({kRows, kHidden}), grad_z({kRows, kHidden});
  Array grad_first(first), grad_gamma(gamma), grad_beta(beta), grad_second(second);

  // Adam over the whole list, checked once.
  const auto views = [](std::vector<Array*> arrays) {
    std::vector<fnn_tensor> found;
    for (Array* a : arrays) found.push_back(a->view());
    return found;
  };
  std::vector<Array> averages, squares;
  for (const Array* a : {&first, &gamma, &beta, &second}) {
    averages.emplace_back(a->shape);
    squares.emplace_back(a->shape);
  }
  const auto params = views({&first, &gamma, &beta, &second});
  const auto grads = views({&grad_first, &grad_gamma, &grad_beta, &grad_second});
  const auto exp_avgs = views({&averages[0], &averages[1], &averages[2], &averages[3]});
  const auto exp_avg_sqs = views({&squares[0], &squares[1], &squares[2], &squares[3]});
  const int32_t adam = fnn_optimizer_kind("adam");
  fnn_optimizer_tensors tensors{};
  tensors.size = sizeof tensors;
  tensors.count = static_cast<int64_t>(params.size());
  tensors.params = params.data();
  tensors.grads = grads.data();
  tensors.states[0] = exp_avgs.data();
  tensors.states[1] = exp_avg_sqs.data();
  fnn_optimizer_plan* plan = nullptr;
  require(fnn_optimizer_plan_create(adam, &tensors, &plan));
  fnn_optimizer_options options{};
  options.size = sizeof options;
  options.convention = FNN_TORCH;
  options.decoupled_weight_decay = -1;
  options.grad_scale = 1;
  options.clip_value = options.max_norm_each = options.max_norm = INFINITY;
  for (int i = 0; fnn_optimizer_hyperparameter(adam, i) != nullptr; ++i) {
    if (std::string(fnn_optimizer_hyperparameter(adam, i)) == "lr") {
      options.hyperparameters[i] = 0.01;
      options.given |= 1u << i;
    }
  }

  Threads threads{2};
  fnn_context_settings settings{};
  settings.size = sizeof settings;
  settings.parallel_for = &Threads::run;
  settings.parallel_context = &threads;
  settings.num_threads = threads.count;
  fnn_context* context = nullptr;
  require(fnn_context_create(&settings, &context));
  require(fnn_context_use(context));

  const fnn_batch_norm_options norm = {sizeof norm, 1, 1e-5, 0.1, 0.1, 1};
  const fnn_tensor vz = z.view(), vy = y.view(), vgamma = gamma.view(), vbeta = beta.view(), vmean = mean.view();
  const fnn_tensor vinv_std = inv_std.view(), vgrad_y = grad_y.view(), vgrad_z = grad_z.view();
  const fnn_tensor vgrad_gamma = grad_gamma.view(), vgrad_beta = grad_beta.view();
  double loss = 0, first_loss = 0;
  for (int64_t step = 1; step <= kSteps; ++step) {
    multiply(x, first, z);
    require(fnn_batch_norm_forward(&vz, &vgamma, &vbeta, nullptr, nullptr, &norm, &vy, &vmean, &vinv_std));
    multiply(y, second, logits);
    loss = loss_and_gradients(logits, labels);
    if (step == 1) first_loss = loss;
    multiply(y, logits, grad_second, true);
    multiply(logits, second, grad_y, false, true);
    require(fnn_batch_norm_backward(&vgrad_y, &vz, &vgamma, &vbeta, &vmean, &vinv_std, &norm, &vgrad_z, &vgrad_gamma,
                                    &vgrad_beta));
    multiply(x, grad_z, grad_first, true);
    require(fnn_optimizer_plan_step(plan, &options, &step, 1, nullptr));
  }
  fnn_optimizer_plan_destroy(plan);
  require(fnn_context_destroy(context));
  std::printf("loss %.4f -> %.4f in %d steps; %lld tasks on the program's threads\n", first_loss, loss, kSteps,
              static_cast<long long>(threads.tasks));
  // BatchNorm gives tasks away in each step, forward and backward; Adam's arrays are too small to be cut.
  return loss < 0.05 && threads.tasks >= 4 * kSteps ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return train();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
