#include "datasets/coding/families.h"

#include <algorithm>

namespace inoculum {
namespace {

using List = std::vector<int64_t>;
using Wishes = std::vector<std::string>;

CodingDraft of_number(Wishes wishes, std::string body,
                      std::function<CodingValue(int64_t)> compute) {
  return {Argument::number, std::move(wishes), std::move(body),
          [compute = std::move(compute)](const CodingValue& x) {
            return compute(std::get<int64_t>(x));
          }};
}

CodingDraft of_text(Wishes wishes, std::string body,
                    std::function<CodingValue(const std::string&)> compute) {
  return {Argument::text, std::move(wishes), std::move(body),
          [compute = std::move(compute)](const CodingValue& s) {
            return compute(std::get<std::string>(s));
          }};
}

CodingDraft of_list(Wishes wishes, std::string body,
                    std::function<CodingValue(const List&)> compute) {
  return {Argument::list, std::move(wishes), std::move(body),
          [compute = std::move(compute)](const CodingValue& xs) {
            return compute(std::get<List>(xs));
          }};
}

std::string str(int64_t k) { return std::to_string(k); }

std::string letter_of(const std::string& letters, Random& random) {
  return std::string(1, letters[random.below(letters.size())]);
}

}  // namespace

// It is long because it is a table: an entry for each family.
const std::vector<CodingFamily>& coding_family_table() {
  static const std::vector<CodingFamily> table = {
      // numbers
      {"add",
       [](Random& r) {
         const int64_t k = r.between(2, 15);
         return of_number({"returns x plus " + str(k), "adds " + str(k) + " to x",
                           "gives the sum of x and " + str(k)},
                          "return x + " + str(k), [k](int64_t x) { return x + k; });
       }},
      {"subtract",
       [](Random& r) {
         const int64_t k = r.between(2, 15);
         return of_number({"returns x minus " + str(k), "takes " + str(k) + " away from x",
                           "gives x less " + str(k)},
                          "return x - " + str(k), [k](int64_t x) { return x - k; });
       }},
      {"multiply",
       [](Random& r) {
         const int64_t k = r.between(2, 5);
         return of_number({"returns x times " + str(k), "multiplies x by " + str(k),
                           "gives the product of x and " + str(k)},
                          "return x * " + str(k), [k](int64_t x) { return x * k; });
       }},
      {"multiply_add",
       [](Random& r) {
         const int64_t a = r.between(2, 4), b = r.between(2, 9);
         return of_number({"returns x times " + str(a) + " plus " + str(b),
                           "multiplies x by " + str(a) + " and adds " + str(b),
                           "gives " + str(b) + " more than x times " + str(a)},
                          "return x * " + str(a) + " + " + str(b),
                          [a, b](int64_t x) { return x * a + b; });
       }},
      {"remainder",
       [](Random& r) {
         const int64_t k = r.between(3, 9);
         return of_number(
             {"returns the remainder of x by " + str(k),
              "gives what is left of x after division by " + str(k), "takes x modulo " + str(k)},
             "return x % " + str(k), [k](int64_t x) { return x % k; });
       }},
      {"divide",
       [](Random& r) {
         const int64_t k = r.between(2, 5);
         return of_number({"returns x divided by " + str(k) + " without the rest",
                           "divides x by " + str(k) + " and rounds down",
                           "tells how often " + str(k) + " goes into x"},
                          "return x // " + str(k), [k](int64_t x) { return x / k; });
       }},
      {"square",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_number({"returns the square of x plus " + str(k), "squares x and adds " + str(k),
                           "gives " + str(k) + " more than x squared"},
                          "return x * x + " + str(k), [k](int64_t x) { return x * x + k; });
       }},
      {"distance",
       [](Random& r) {
         const int64_t k = r.between(3, 9);
         return of_number(
             {"returns the distance of x from " + str(k), "tells how far x is from " + str(k),
              "gives the gap between x and " + str(k)},
             "return abs(x - " + str(k) + ")", [k](int64_t x) { return std::abs(x - k); });
       }},
      {"at_most",
       [](Random& r) {
         const int64_t k = r.between(3, 9);
         return of_number({"returns x but at most " + str(k),
                           "gives the smaller of x and " + str(k), "limits x to " + str(k)},
                          "return min(x, " + str(k) + ")",
                          [k](int64_t x) { return std::min(x, k); });
       }},
      {"at_least",
       [](Random& r) {
         const int64_t k = r.between(3, 9);
         return of_number(
             {"returns x but at least " + str(k), "gives the larger of x and " + str(k),
              "raises x to " + str(k) + " if it is lower"},
             "return max(x, " + str(k) + ")", [k](int64_t x) { return std::max(x, k); });
       }},
      // strings
      {"length",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_text({"returns the length of s plus " + str(k),
                         "counts the letters of s and adds " + str(k),
                         "gives " + str(k) + " more than the length of s"},
                        "return len(s) + " + str(k),
                        [k](const std::string& s) { return static_cast<int64_t>(s.size()) + k; });
       }},
      {"length_times",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_text({"returns the length of s times " + str(k),
                         "counts the letters of s and multiplies by " + str(k),
                         "gives " + str(k) + " times the length of s"},
                        "return len(s) * " + str(k),
                        [k](const std::string& s) { return static_cast<int64_t>(s.size()) * k; });
       }},
      {"count_letter",
       [](Random& r) {
         const std::string c = letter_of("aeilort", r);
         return of_text({"counts the letter " + c + " in s", "tells how often " + c + " is in s",
                         "returns the number of " + c + " in s"},
                        "return s.count(\"" + c + "\")", [c](const std::string& s) {
                          return static_cast<int64_t>(std::ranges::count(s, c[0]));
                        });
       }},
      {"starts_with",
       [](Random& r) {
         const std::string c = letter_of("bglmrst", r);
         return of_text(
             {"tells whether s starts with " + c, "returns True when the first letter of s is " + c,
              "checks that s begins with " + c},
             "return s.startswith(\"" + c + "\")",
             [c](const std::string& s) { return s.front() == c[0]; });
       }},
      {"ends_with",
       [](Random& r) {
         const std::string c = letter_of("adenr", r);
         return of_text(
             {"tells whether s ends with " + c, "returns True when the last letter of s is " + c,
              "checks that s stops with " + c},
             "return s.endswith(\"" + c + "\")",
             [c](const std::string& s) { return s.back() == c[0]; });
       }},
      {"has_letter",
       [](Random& r) {
         const std::string c = letter_of("aeilort", r);
         return of_text({"tells whether " + c + " is in s",
                         "returns True when s has the letter " + c, "checks that s contains " + c},
                        "return \"" + c + "\" in s",
                        [c](const std::string& s) { return s.find(c) != std::string::npos; });
       }},
      {"is_longer",
       [](Random& r) {
         const int64_t k = r.between(3, 5);
         return of_text({"tells whether s has more than " + str(k) + " letters",
                         "returns True when s is longer than " + str(k),
                         "checks that the length of s is over " + str(k)},
                        "return len(s) > " + str(k),
                        [k](const std::string& s) { return static_cast<int64_t>(s.size()) > k; });
       }},
      // lists
      {"sum_list",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_list({"returns the sum of xs plus " + str(k), "adds up xs and " + str(k),
                         "gives " + str(k) + " more than the sum of xs"},
                        "return sum(xs) + " + str(k), [k](const List& xs) {
                          int64_t sum = k;
                          for (const int64_t x : xs) sum += x;
                          return sum;
                        });
       }},
      {"largest",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_list({"returns the largest of xs plus " + str(k),
                         "adds " + str(k) + " to the largest of xs",
                         "gives " + str(k) + " more than the maximum of xs"},
                        "return max(xs) + " + str(k),
                        [k](const List& xs) { return std::ranges::max(xs) + k; });
       }},
      {"smallest",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_list({"returns the smallest of xs plus " + str(k),
                         "adds " + str(k) + " to the smallest of xs",
                         "gives " + str(k) + " more than the minimum of xs"},
                        "return min(xs) + " + str(k),
                        [k](const List& xs) { return std::ranges::min(xs) + k; });
       }},
      {"first_item",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_list({"returns the first of xs plus " + str(k),
                         "adds " + str(k) + " to the first item of xs",
                         "gives " + str(k) + " more than the first of xs"},
                        "return xs[0] + " + str(k), [k](const List& xs) { return xs.front() + k; });
       }},
      {"last_item",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_list(
             {"returns the last of xs plus " + str(k), "adds " + str(k) + " to the last item of xs",
              "gives " + str(k) + " more than the last of xs"},
             "return xs[-1] + " + str(k), [k](const List& xs) { return xs.back() + k; });
       }},
      {"has_item",
       [](Random& r) {
         const int64_t k = r.between(1, 9);
         return of_list(
             {"tells whether " + str(k) + " is in xs",
              "returns True when xs has the item " + str(k), "checks that xs contains " + str(k)},
             "return " + str(k) + " in xs",
             [k](const List& xs) { return std::ranges::count(xs, k) > 0; });
       }},
      // conditions
      {"is_above",
       [](Random& r) {
         const int64_t k = r.between(3, 9);
         return of_number(
             {"tells whether x is above " + str(k), "returns True when x is over " + str(k),
              "checks that x is more than " + str(k)},
             "return x > " + str(k), [k](int64_t x) { return x > k; });
       }},
      {"is_multiple",
       [](Random& r) {
         const int64_t k = r.between(2, 5);
         return of_number({"tells whether x is a multiple of " + str(k),
                           "returns True when " + str(k) + " divides x",
                           "checks that x can be divided by " + str(k)},
                          "return x % " + str(k) + " == 0", [k](int64_t x) { return x % k == 0; });
       }},
      {"name_size",
       [](Random& r) {
         const int64_t k = r.between(3, 9);
         return of_number({"returns big when x is over " + str(k) + " and small otherwise",
                           "calls x big above " + str(k) + " and small below",
                           "says big for x over " + str(k) + " and small for the rest"},
                          "if x > " + str(k) + ":\n        return \"big\"\n    return \"small\"",
                          [k](int64_t x) { return std::string(x > k ? "big" : "small"); });
       }},
      {"even_times",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_number({"returns x times " + str(k) + " when x is even and x otherwise",
                           "multiplies x by " + str(k) + " if it is even",
                           "gives x times " + str(k) + " for even x and x for odd x"},
                          "if x % 2 == 0:\n        return x * " + str(k) + "\n    return x",
                          [k](int64_t x) { return x % 2 == 0 ? x * k : x; });
       }},
      // small loops
      {"count_above",
       [](Random& r) {
         const int64_t k = r.between(3, 6);
         return of_list(
             {"counts the items of xs above " + str(k), "tells how many of xs are over " + str(k),
              "returns the number of items above " + str(k) + " in xs"},
             "n = 0\n    for x in xs:\n        if x > " + str(k) +
                 ":\n            n += 1\n    return n",
             [k](const List& xs) {
               return static_cast<int64_t>(
                   std::ranges::count_if(xs, [k](int64_t x) { return x > k; }));
             });
       }},
      {"sum_up_to",
       [](Random& r) {
         const int64_t k = r.between(2, 9);
         return of_number(
             {"sums the numbers below x and adds " + str(k),
              "returns the sum of all numbers below x plus " + str(k),
              "adds up all below x and then " + str(k)},
             "n = " + str(k) + "\n    for i in range(x):\n        n += i\n    return n",
             [k](int64_t x) { return x * (x - 1) / 2 + k; });
       }},
      {"product",
       [](Random& r) {
         const int64_t k = r.between(2, 3);
         return of_list(
             {"multiplies all of xs and " + str(k), "returns the product of xs times " + str(k),
              "gives " + str(k) + " times the product of xs"},
             "n = " + str(k) + "\n    for x in xs:\n        n *= x\n    return n",
             [k](const List& xs) {
               int64_t n = k;
               for (const int64_t x : xs) n *= x;
               return n;
             });
       }},
  };
  return table;
}

}  // namespace inoculum
