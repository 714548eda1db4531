// The optimizers, each a struct with its tables and its formula, and the list of them.
//
// To add one: write a struct like those below and name it in FNN_OPTIMIZERS. Argument checks, both devices, the C API,
// the binding and the tests' matrix go through the list and the tables.
//
//   name             what fnn_optimizer_kind and Python call it
//   hyperparameters  in the order of their values h[]; the first is always the learning rate
//   states           in the order of their values s[]; one that is not needed is a scratch value. Some may be kept in
//                    8-bit codes (math/quantize.h), whose errors of some percent have a mean of zero
//   conventions      the frameworks that have it; `decoupled_decay`: those whose weight decay is not in the gradient
//   conflict         a sentence about hyper-parameters that exclude one another, or null
//   prepare          everything that is constant over a tensor, computed in double, rounded once to C
//   update           elements, a scalar or a vector V of them; conventions differ only in coefficients, so that this is
//                    written once. It may branch where all elements go the same way; choices between elements are
//                    between values that are there already
#pragma once

#include "math/quantize.h"
#include "math/scalar.h"

namespace fusednn {
inline namespace FNN_UNIT {

// torch.optim; Keras 3; tf.compat.v1.train; optax; the operators ai.onnx.preview.training; mlx.optimizers.
enum Convention { kTorch, kKeras, kTf1, kOptax, kOnnx, kMlx, kConventionCount };

// A set of conventions.
constexpr unsigned bit(Convention c) { return 1u << c; }
constexpr bool among(unsigned set, int32_t convention) { return (set >> convention & 1u) != 0; }
constexpr unsigned kEvery = (1u << kConventionCount) - 1;

// The number of a tensor's first update: ONNX counts the updates made, the others this one too.
constexpr int64_t first_step(int32_t convention) { return convention == kOnnx ? 0 : 1; }

// What is added to a norm before a limit is divided by it.
constexpr double norm_epsilon(int32_t convention) { return among(bit(kTorch) | bit(kMlx), convention) ? 1e-6 : 0.0; }

enum class Domain { kNonNegative, kUnitInterval, kBelowOne, kFinite, kFlag };

// Marks a hyper-parameter that a convention does not have: it must be 0.
constexpr double kAbsent = -1.0;
// Marks one that has no default.
constexpr double kRequired = -2.0;
// Marks a flag that a convention has on without asking: it must be 1.
constexpr double kAlwaysOn = -3.0;

struct Hyperparameter {
  const char* name;
  Domain domain;
  double default_value[kConventionCount];  // for a value that was not given: torch, keras, tf1, optax, onnx, mlx
};

constexpr Hyperparameter everywhere(const char* name, Domain domain, double value) {
  return {name, domain, {value, value, value, value, value, value}};
}

constexpr int kAlways = -1;
constexpr int kNever = -1;

struct State {
  const char* name;
  int needed_by;               // the hyper-parameter that makes it necessary by being non-zero; kAlways
  Codes codes = Codes::kNone;  // the 8-bit codes that it may be kept in
  int exact_for = kNever;      // the hyper-parameter that rules codes out by being non-zero
};

struct Sgd {
  static constexpr const char* name = "sgd";
  enum { kLr, kMomentum, kDampening, kNesterov };
  static constexpr Hyperparameter hyperparameters[] = {
      everywhere("lr", Domain::kNonNegative, kRequired),
      everywhere("momentum", Domain::kUnitInterval, 0.0),
      {"dampening", Domain::kFinite, {0.0, kAbsent, kAbsent, kAbsent, 0.0, 0.0}},
      everywhere("nesterov", Domain::kFlag, 0.0),
  };
  static constexpr State states[] = {{"momentum_buffers", kMomentum, Codes::kSigned}};
  static constexpr unsigned conventions = kEvery;
  static constexpr unsigned decoupled_decay = bit(kKeras) | bit(kOptax);

  static const char* conflict(const double* h, Convention convention) {
    if (among(bit(kTorch) | bit(kMlx), convention) && h[kNesterov] != 0.0 &&
        (h[kMomentum] == 0.0 || h[kDampening] != 0.0)) {
      return "`nesterov` needs momentum > 0 and dampening = 0 in the torch and mlx conventions";
    }
    return nullptr;
  }

  // b <- mu b + (1 - dampening) g, p <- p - lr b; Nesterov: mu b + g in place of b.
  // torch's first step is b = g, ONNX's has no dampening. keras: b <- mu b - lr g, p <- p + b; Nesterov: mu b - lr g.
  template <class C>
  struct Coefficients {
    C momentum, gradient_in_buffer, gradient, step;
    bool nesterov, plain, first;
  };

  template <class C>
  static FNN_INLINE Coefficients<C> prepare(const double* h, Convention convention, int64_t step) {
    const bool keras = convention == kKeras;
    const bool first = step == first_step(convention);
    const bool plain = h[kMomentum] == 0.0;
    // MLX ignores a negative dampening. ONNX, whose beta is 1 - dampening, dampens without momentum too.
    const bool undamped =
        (convention == kOnnx && first) || (convention == kMlx && h[kDampening] < 0.0) || h[kDampening] == 0.0;
    const double damped = undamped ? 1.0 : 1.0 - h[kDampening];
    const bool dampens_plain = convention == kOnnx && plain && h[kNesterov] == 0.0;
    return {C(h[kMomentum]),
            keras ? C(-h[kLr]) : C(damped),
            keras ? C(-h[kLr]) : C(dampens_plain ? damped : 1.0),
            keras ? C(1.0) : C(-h[kLr]),
            h[kNesterov] != 0.0,
            plain,
            convention == kTorch && first};
  }

  template <class C, class V>
  static FNN_INLINE void update(const Coefficients<C>& k, V& p, V g, V* s) {
    s[0] = k.first ? g : k.momentum * s[0] + k.gradient_in_buffer * g;
    const V along = k.nesterov ? k.momentum * s[0] + k.gradient * g : s[0];
    p += k.step * (k.plain ? k.gradient * g : along);
  }
};

// Duchi, Hazan and Singer 2011: h <- h + g^2, p <- p - lr_t g / (sqrt(h) + eps), lr_t = lr / (1 + steps before * lr_decay).
// keras, tf1, optax: eps inside the root (tf1: none); optax: 0 where h is 0.
struct Adagrad {
  static constexpr const char* name = "adagrad";
  enum { kLr, kLrDecay, kEps };
  static constexpr Hyperparameter hyperparameters[] = {
      everywhere("lr", Domain::kNonNegative, kRequired),
      {"lr_decay", Domain::kNonNegative, {0.0, kAbsent, kAbsent, kAbsent, 0.0, kAbsent}},
      {"eps", Domain::kNonNegative, {1e-10, 1e-7, kAbsent, 1e-7, 1e-6, 1e-8}},
  };
  static constexpr State states[] = {{"sums", kAlways, Codes::kUnsigned}};
  static constexpr unsigned conventions = kEvery;
  static constexpr unsigned decoupled_decay = bit(kKeras) | bit(kOptax);
  static const char* conflict(const double*, Convention) { return nullptr; }

  template <class C>
  struct Coefficients {
    C step, eps_inside, eps_outside, still;
  };

  template <class C>
  static FNN_INLINE Coefficients<C> prepare(const double* h, Convention convention, int64_t step) {
    const bool inside = among(bit(kKeras) | bit(kTf1) | bit(kOptax), convention);
    const double steps_before = static_cast<double>(step - first_step(convention));
    // Sums up to `still` move nothing; none is up to NaN.
    return {C(-h[kLr] / (1.0 + steps_before * h[kLrDecay])), inside ? C(h[kEps]) : C(0), inside ? C(0) : C(h[kEps]),
            convention == kOptax ? C(0) : C(NAN)};
  }

  template <class C, class V>
  static FNN_INLINE void update(const Coefficients<C>& k, V& p, V g, V* s) {
    s[0] += g * g;
    const V change = k.step * g / (square_root(s[0] + k.eps_inside) + k.eps_outside);
    p += s[0] <= k.still ? V{} : change;
  }
};

// Hinton 2012; centered: Graves 2013. v <- rho v + (1 - rho) g^2, m <- rho m + (1 - rho) g, d = sqrt(v [- m^2]) + eps.
// torch, mlx: b <- mu b + g / d, p <- p - lr b.   keras, tf1, optax: eps inside the root; b <- mu b + lr g / d,
// p <- p - b (optax: b is -b). optax may have eps beside the root, v / (1 - rho^t) and m / (1 - rho^t) in place of v and m,
// and Nesterov's mu b + lr g / d in place of b.
struct Rmsprop {
  static constexpr const char* name = "rmsprop";
  enum { kLr, kRho, kEps, kMomentum, kCentered, kNesterov, kEpsInSqrt, kBiasCorrection };
  static constexpr Hyperparameter hyperparameters[] = {
      everywhere("lr", Domain::kNonNegative, kRequired),
      {"rho", Domain::kUnitInterval, {0.99, 0.9, 0.9, 0.9, kAbsent, 0.99}},
      {"eps", Domain::kNonNegative, {1e-8, 1e-7, 1e-10, 1e-8, kAbsent, 1e-8}},
      {"momentum", Domain::kUnitInterval, {0.0, 0.0, 0.0, 0.0, kAbsent, kAbsent}},
      {"centered", Domain::kFlag, {0.0, 0.0, 0.0, 0.0, kAbsent, kAbsent}},
      {"nesterov", Domain::kFlag, {kAbsent, kAbsent, kAbsent, 0.0, kAbsent, kAbsent}},
      {"eps_in_sqrt", Domain::kFlag, {kAbsent, kAlwaysOn, kAlwaysOn, 1.0, kAbsent, kAbsent}},
      {"bias_correction", Domain::kFlag, {kAbsent, kAbsent, kAbsent, 0.0, kAbsent, kAbsent}},
  };
  static constexpr State states[] = {
      // v - m^2 of the centered form is small beside both: no room for the errors of codes.
      {"square_avgs", kAlways, Codes::kUnsigned, kCentered},
      {"momentum_buffers", kMomentum, Codes::kSigned},
      {"grad_avgs", kCentered},
  };
  static constexpr unsigned conventions = kEvery & ~bit(kOnnx);
  static constexpr unsigned decoupled_decay = bit(kKeras) | bit(kOptax);
  static const char* conflict(const double*, Convention) { return nullptr; }

  template <class C>
  struct Coefficients {
    C rho, one_minus_rho, in_square, eps_inside, eps_outside, momentum, gradient, step;
    bool centered, plain, nesterov;
  };

  template <class C>
  static FNN_INLINE Coefficients<C> prepare(const double* h, Convention convention, int64_t step) {
    const bool rate_inside = among(bit(kKeras) | bit(kTf1) | bit(kOptax), convention);
    const bool eps_inside = h[kEpsInSqrt] != 0.0;
    const double sign = convention == kOptax ? -1.0 : 1.0;
    // sqrt((v - m^2 / c) / c + eps) is sqrt(v - m^2 / c + c eps) / sqrt(c), and so on: the correction moves into constants.
    const double c = h[kBiasCorrection] != 0.0 ? 1.0 - power(h[kRho], step) : 1.0;
    return {C(h[kRho]),
            C(1.0 - h[kRho]),
            C(1.0 / c),
            eps_inside ? C(c * h[kEps]) : C(0),
            eps_inside ? C(0) : C(sqrt(c) * h[kEps]),
            C(h[kMomentum]),
            rate_inside ? C(sign * h[kLr] * sqrt(c)) : C(1),
            rate_inside ? C(-sign) : C(-h[kLr]),
            h[kCentered] != 0.0,
            h[kMomentum] == 0.0,
            h[kNesterov] != 0.0 && h[kMomentum] != 0.0};
  }

  template <class C, class V>
  static FNN_INLINE void update(const Coefficients<C>& k, V& p, V g, V* s) {
    s[0] = k.rho * s[0] + k.one_minus_rho * (g * g);
    V spread = s[0];
    if (k.centered) {
      s[2] = k.rho * s[2] + k.one_minus_rho * g;
      // v - m^2 is a variance; rounding may take it below zero where a gradient is constant.
      const V variance = s[0] - k.in_square * (s[2] * s[2]);
      spread = variance < C(0) ? V{} : variance;
    }
    const V scaled = k.gradient * g / (square_root(spread + k.eps_inside) + k.eps_outside);
    s[1] = k.plain ? scaled : k.momentum * s[1] + scaled;
    p += k.step * (k.nesterov ? k.momentum * s[1] + scaled : s[1]);
  }
};

// Kingma and Ba 2015; AMSGrad: Reddi et al. 2018. m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, c_i = 1 - b_i^t.
// torch, optax, mlx: p <- p - (lr / c1) m / (sqrt(v / c2 + eps_root) + eps), eps_root in optax alone.
// keras, tf1, onnx: p <- p - (lr sqrt(c2) / c1) m / (sqrt(v) + eps); onnx: p <- (1 - norm_coefficient_post) p after it.
// c_i is 1 in onnx at t = 0, and in mlx where bias_correction is off. AMSGrad's maximum is of v; optax: of v / c2.
struct Adam {
  static constexpr const char* name = "adam";
  enum { kLr, kBeta1, kBeta2, kEps, kAmsgrad, kEpsRoot, kBiasCorrection, kNormCoefficientPost };
  static constexpr Hyperparameter hyperparameters[] = {
      everywhere("lr", Domain::kNonNegative, kRequired),
      everywhere("beta1", Domain::kBelowOne, 0.9),
      everywhere("beta2", Domain::kBelowOne, 0.999),
      {"eps", Domain::kNonNegative, {1e-8, 1e-7, 1e-8, 1e-8, 1e-6, 1e-8}},
      {"amsgrad", Domain::kFlag, {0.0, 0.0, kAbsent, 0.0, kAbsent, kAbsent}},
      {"eps_root", Domain::kNonNegative, {kAbsent, kAbsent, kAbsent, 0.0, kAbsent, kAbsent}},
      {"bias_correction", Domain::kFlag, {kAlwaysOn, kAlwaysOn, kAlwaysOn, kAlwaysOn, kAlwaysOn, 0.0}},
      {"norm_coefficient_post", Domain::kNonNegative, {kAbsent, kAbsent, kAbsent, kAbsent, 0.0, kAbsent}},
  };
  static constexpr State states[] = {
      {"exp_avgs", kAlways, Codes::kSigned},
      // AMSGrad's maximum would keep every error upwards for good.
      {"exp_avg_sqs", kAlways, Codes::kUnsigned, kAmsgrad},
      {"max_exp_avg_sqs", kAmsgrad},
  };
  static constexpr unsigned conventions = kEvery;
  static constexpr unsigned decoupled_decay = bit(kKeras) | bit(kOptax) | bit(kMlx);
  static const char* conflict(const double*, Convention) { return nullptr; }

  template <class C>
  struct Coefficients {
    C beta1, one_minus_beta1, beta2, one_minus_beta2, in_maximum, eps_inside, eps_outside, step, kept;
    bool amsgrad;
  };

  template <class C>
  static FNN_INLINE Coefficients<C> prepare(const double* h, Convention convention, int64_t step) {
    const bool corrected = h[kBiasCorrection] != 0.0 && step > 0;
    const double c1 = corrected ? 1.0 - power(h[kBeta1], step) : 1.0;
    const double c2 = corrected ? 1.0 - power(h[kBeta2], step) : 1.0;
    const bool eps_beside_v = among(bit(kKeras) | bit(kTf1) | bit(kOnnx), convention);
    const bool corrected_maximum = convention == kOptax && h[kAmsgrad] != 0.0;
    // sqrt(v / c2 + eps_root) + eps is (sqrt(v + c2 eps_root) + sqrt(c2) eps) / sqrt(c2): the correction moves into
    // constants, unless the maximum already has it.
    const double in_root = corrected_maximum ? 1.0 : c2;
    const double kept = 1.0 - h[kNormCoefficientPost];
    return {C(h[kBeta1]),
            C(1.0 - h[kBeta1]),
            C(h[kBeta2]),
            C(1.0 - h[kBeta2]),
            C(corrected_maximum ? 1.0 / c2 : 1.0),
            C(in_root * h[kEpsRoot]),
            C(eps_beside_v ? h[kEps] : sqrt(in_root) * h[kEps]),
            C(-kept * h[kLr] * sqrt(in_root) / c1),
            C(kept),
            h[kAmsgrad] != 0.0};
  }

  template <class C, class V>
  static FNN_INLINE void update(const Coefficients<C>& k, V& p, V g, V* s) {
    s[0] = k.beta1 * s[0] + k.one_minus_beta1 * g;
    s[1] = k.beta2 * s[1] + k.one_minus_beta2 * (g * g);
    if (k.amsgrad) s[2] = larger(s[2], k.in_maximum * s[1]);
    const V second = k.amsgrad ? s[2] : s[1];
    p = k.kept * p + k.step * s[0] / (square_root(second + k.eps_inside) + k.eps_outside);
  }
};

// Kingma and Ba 2015, section 7: m <- b1 m + (1 - b1) g, u <- max(b2 u, |g|), p <- p - (lr / (1 - b1^t)) m / (u + eps).
// torch, optax: eps is added to |g| before the maximum is taken. mlx: lr is not corrected.
struct Adamax {
  static constexpr const char* name = "adamax";
  enum { kLr, kBeta1, kBeta2, kEps };
  static constexpr Hyperparameter hyperparameters[] = {
      everywhere("lr", Domain::kNonNegative, kRequired),
      everywhere("beta1", Domain::kBelowOne, 0.9),
      everywhere("beta2", Domain::kBelowOne, 0.999),
      {"eps", Domain::kNonNegative, {1e-8, 1e-7, kAbsent, 1e-8, kAbsent, 1e-8}},
  };
  // The maximum would keep every error of a code upwards.
  static constexpr State states[] = {{"exp_avgs", kAlways, Codes::kSigned}, {"exp_infs", kAlways}};
  static constexpr unsigned conventions = kEvery & ~bit(kTf1) & ~bit(kOnnx);
  static constexpr unsigned decoupled_decay = bit(kKeras) | bit(kOptax);
  static const char* conflict(const double*, Convention) { return nullptr; }

  template <class C>
  struct Coefficients {
    C beta1, one_minus_beta1, beta2, eps_in_maximum, eps_beside, step;
  };

  template <class C>
  static FNN_INLINE Coefficients<C> prepare(const double* h, Convention convention, int64_t step) {
    const double c1 = convention == kMlx ? 1.0 : 1.0 - power(h[kBeta1], step);
    const bool inside = among(bit(kTorch) | bit(kOptax), convention);
    return {C(h[kBeta1]),   C(1.0 - h[kBeta1]), C(h[kBeta2]), inside ? C(h[kEps]) : C(0), inside ? C(0) : C(h[kEps]),
            C(-h[kLr] / c1)};
  }

  template <class C, class V>
  static FNN_INLINE void update(const Coefficients<C>& k, V& p, V g, V* s) {
    s[0] = k.beta1 * s[0] + k.one_minus_beta1 * g;
    const V size = g < C(0) ? -g : g;
    s[1] = larger(k.beta2 * s[1], size + k.eps_in_maximum);
    p += k.step * s[0] / (s[1] + k.eps_beside);
  }
};

// Dozat 2016: m, v and c2 as Adam's, p <- p - lr (mu' m / (1 - P mu') + (1 - mu) g / (1 - P)) / (sqrt(v / c2 + eps_root) +
// eps). torch, keras: mu = mu_t = b1 (1 - 0.96^(t d) / 2), mu' = mu_(t+1), P = mu_1 ... mu_t, d = momentum_decay, 1 in keras.
// optax: mu = mu' = b1.
struct Nadam {
  static constexpr const char* name = "nadam";
  enum { kLr, kBeta1, kBeta2, kEps, kMomentumDecay, kEpsRoot };
  static constexpr Hyperparameter hyperparameters[] = {
      everywhere("lr", Domain::kNonNegative, kRequired),
      everywhere("beta1", Domain::kBelowOne, 0.9),
      everywhere("beta2", Domain::kBelowOne, 0.999),
      {"eps", Domain::kNonNegative, {1e-8, 1e-7, kAbsent, 1e-8, kAbsent, kAbsent}},
      {"momentum_decay", Domain::kNonNegative, {4e-3, kAbsent, kAbsent, kAbsent, kAbsent, kAbsent}},
      {"eps_root", Domain::kNonNegative, {kAbsent, kAbsent, kAbsent, 0.0, kAbsent, kAbsent}},
  };
  static constexpr State states[] = {{"exp_avgs", kAlways, Codes::kSigned}, {"exp_avg_sqs", kAlways, Codes::kUnsigned}};
  static constexpr unsigned conventions = bit(kTorch) | bit(kKeras) | bit(kOptax);
  static constexpr unsigned decoupled_decay = bit(kKeras) | bit(kOptax);
  static const char* conflict(const double*, Convention) { return nullptr; }

  template <class C>
  struct Coefficients {
    C beta1, one_minus_beta1, beta2, one_minus_beta2, average, gradient, eps_inside, eps_outside;
  };

  // `terms`: the warmup_term of each number, 1 first, where others have computed them; null: they are computed here.
  template <class C>
  static FNN_INLINE Coefficients<C> prepare(const double* h, Convention convention, int64_t step,
                                            const double* terms = nullptr) {
    double now = h[kBeta1], next = h[kBeta1], product = power(h[kBeta1], step);
    if (convention != kOptax) {
      const double rate = warmup_rate(h, convention);
      now *= 1.0 - 0.5 * exponential(rate * step);
      next *= 1.0 - 0.5 * exponential(rate * (step + 1.0));
      double logarithm = 0.0;
      for (int k = 1; k <= kWarmupTerms; ++k) {
        logarithm -= terms != nullptr ? terms[k - 1] : warmup_term(h, convention, step, k);
      }
      product *= exponential(logarithm);
    }
    const double c2 = 1.0 - power(h[kBeta2], step);
    const double factor = -h[kLr] * sqrt(c2);  // the denominator is written times sqrt(c2)
    return {C(h[kBeta1]),
            C(1.0 - h[kBeta1]),
            C(h[kBeta2]),
            C(1.0 - h[kBeta2]),
            C(factor * next / (1.0 - product * next)),
            C(factor * (1.0 - now) / (1.0 - product)),
            C(c2 * h[kEpsRoot]),
            C(sqrt(c2) * h[kEps])};
  }

  template <class C, class V>
  static FNN_INLINE void update(const Coefficients<C>& k, V& p, V g, V* s) {
    s[0] = k.beta1 * s[0] + k.one_minus_beta1 * g;
    s[1] = k.beta2 * s[1] + k.one_minus_beta2 * (g * g);
    p += (k.average * s[0] + k.gradient * g) / (square_root(s[1] + k.eps_inside) + k.eps_outside);
  }

  // (1 - q/2) (1 - q^2/2) ... (1 - q^t/2), q = e^rate. Its logarithm is minus the sum over k of (1/2)^k / k times
  // q^k + q^2k + ... + q^tk: as fast for the millionth step as for the first. The terms are independent of one another.
  static constexpr int kWarmupTerms = 56;

  static FNN_INLINE double warmup_term(const double* h, Convention convention, int64_t t, int k) {
    if (convention == kOptax) return 0.0;
    const double rate = warmup_rate(h, convention);
    const double x = k * rate;
    const double sum = x == 0.0 ? t : exponential(x) * one_minus_exponential(t * x) / one_minus_exponential(x);
    return power(0.5, k) / k * sum;
  }

 private:
  static FNN_INLINE double warmup_rate(const double* h, Convention convention) {
    return -0.04082199452025517 * (convention == kKeras ? 1.0 : h[kMomentumDecay]);  // ln 0.96 d
  }
};

// X(struct). The position in this list is the optimizer's kind.
#define FNN_OPTIMIZERS(X) X(Sgd) X(Adagrad) X(Rmsprop) X(Adam) X(Adamax) X(Nadam)

}  // namespace FNN_UNIT
}  // namespace fusednn
