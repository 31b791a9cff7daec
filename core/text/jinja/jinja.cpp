#include "core/text/jinja/jinja.h"

#include <algorithm>
#include <ctime>
#include <deque>
#include <unordered_map>

#include "core/base/error.h"
#include "core/text/jinja/operations.h"
#include "core/text/jinja/syntax.h"

namespace inoculum {
namespace jinja {
namespace {

enum class Flow { on, leave, proceed };  // after a statement: go on, break, continue

struct Scope {
  Scope* parent = nullptr;
  std::unordered_map<std::string, Value> names = {};
};

class Renderer : public Operations {
 public:
  Renderer(const Json& context, TemplateOptions options, std::vector<Generated>* generated)
      : Operations(options.autoescape, options.limits), generated_(generated) {
    for (const auto& [name, value] : context.items()) {
      if (name == "strftime_now") date_ = value.is_string() ? value.get<std::string>() : "";
      else global_.names[name] = from_json(value);
    }
  }

  std::string run(const Body& body, const std::vector<std::string>& hidden) {
    std::string out;
    hide(hidden);
    main_out_ = &out;
    execute(body, out);
    return out;
  }
  int line() const { return line_; }

 private:
  Value call(const Value& callee, const Args& args) {
    need_defined(callee);
    const Restored<int> level(depth_, deeper());
    if (callee.kind == Kind::macro) return call_macro(*callee.object->macro, args);
    if (callee.kind == Kind::method)
      return call_method(callee.object->items[0], callee.object->text, args);
    if (callee.kind != Kind::function) throw Fault{"a " + type_name(callee) + " cannot be called"};
    const std::string& name = callee.object->text;
    if (name == "range") return range(args);
    if (name == "namespace") {
      std::vector<Value> pairs = dict_of(args);
      for (size_t i = 0; i < pairs.size(); i += 2) check_member(str(pairs[i]));
      charge(30);
      spaces_.emplace_back().items = std::move(pairs);
      return {Kind::space, 0, 0,
              std::shared_ptr<Object>(std::shared_ptr<Object>(), &spaces_.back())};
    }
    if (name == "dict") return sequence(Kind::dict, dict_of(args));
    if (name == "strftime_now")
      return text(
          formatted_date(need_text(bind("strftime_now", args, {"format"}, 1)[0], "strftime_now")));
    throw Fault{str(bind("raise_exception", args, {"message"}, 1)[0])};
  }

  Value call_macro(const Node& macro, const Args& args) {
    Scope scope{&global_};
    const auto is_parameter = [&](const auto& argument) {
      return std::any_of(macro.named.begin(), macro.named.end(),
                         [&](const auto& parameter) { return parameter.first == argument.first; });
    };
    if (args.list.size() > macro.named.size())
      throw Fault{"the macro " + macro.text + " takes at most " +
                  std::to_string(macro.named.size()) + " arguments"};
    for (const auto& argument : args.named)
      if (!is_parameter(argument))
        throw Fault{"the macro " + macro.text + " has no argument " + argument.first};
    const Restored<Scope*> inside(scope_, &scope);
    for (size_t i = 0; i < macro.named.size(); ++i) {
      const auto& [name, otherwise] = macro.named[i];
      const auto found = std::find_if(
          args.named.begin(), args.named.end(),
          [&, &parameter = name](const auto& argument) { return argument.first == parameter; });
      if (i < args.list.size() && found != args.named.end())
        throw Fault{"the macro " + macro.text + " is given " + name + " twice"};
      scope.names[name] = i < args.list.size()        ? args.list[i]
                          : found != args.named.end() ? found->second
                          : otherwise ? eval(*otherwise)
                                      : undefined("the parameter '" + name + "' was not provided");
    }
    std::string out;
    hide(macro.hidden);
    execute(macro.bodies[0], out);
    return captured(std::move(out));
  }

  Value range(const Args& args) {
    const auto a = bind("range", args, {"the end", "the start", "the step"}, 1);
    const int64_t first = need_integer(a[0], "range"), begin = given(a[1]) ? first : 0,
                  end = given(a[1]) ? need_integer(a[1], "range") : first,
                  step = given(a[2]) ? need_integer(a[2], "range") : 1;
    if (step == 0) throw Fault{"range cannot have the step 0"};
    std::vector<Value> items;
    for (int64_t i = begin; step < 0 ? i > end : i < end;) {
      if (items.size() == 100'000) throw Fault{"a range of more than 100000 is not allowed"};
      items.push_back(number(i));
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    Value value = sequence(Kind::range, std::move(items));
    value.object->text = "range(" + std::to_string(begin) + ", " + std::to_string(end) +
                         (step == 1 ? "" : ", " + std::to_string(step)) + ")";
    return value;
  }

  std::string formatted_date(const std::string& pattern) const {
    std::tm time = {};
    const char* end = ::strptime(date_.c_str(), "%Y-%m-%d", &time);
    if (end && *end != '\0') end = ::strptime(end, "T%H:%M:%S", &time);
    const std::tm given = time;
    ::timegm(&time);  // fills in the day of the week and of the year; makes 31 April 1 May
    if (!end || *end != '\0' || time.tm_mday != given.tm_mday || time.tm_sec != given.tm_sec)
      throw Fault{"the context's strftime_now is not a date",
                  "write it like 2025-12-31 or 2025-12-31T23:59:59"};
    if (pattern.size() > 200) throw Fault{"the format of strftime_now is too long"};
    char buffer[8192];
    return std::string(buffer, std::strftime(buffer, sizeof buffer, pattern.c_str(), &time));
  }

  static void check_member(const std::string& name) {
    if (name.starts_with("_")) throw Fault{"a namespace cannot hold the name " + name};
  }

  Value lookup(const std::string& name) {
    for (const Scope* scope = scope_; scope; scope = scope->parent)
      if (const auto found = scope->names.find(name); found != scope->names.end())
        return found->second;
    for (const char* function : {"range", "dict", "namespace", "raise_exception", "strftime_now"})
      if (name == function) return with_text(Kind::function, name);
    for (const char* known : {"lipsum", "cycler", "joiner", "self"})
      if (name == known) throw Fault{name + " is not supported in chat templates"};
    return undefined("'" + name + "' is undefined");
  }

  Args arguments(const Node& n) {
    Args args;
    for (size_t i = 1; i < n.kids.size(); ++i) args.list.push_back(eval(*n.kids[i]));
    for (const auto& [name, value] : n.named) args.named.emplace_back(name, eval(*value));
    return args;
  }

  Value eval(const Node& n) {
    const Restored<int> level(depth_, deeper());
    charge(1);
    line_ = n.line;
    switch (n.op) {
      case Op::literal: return n.value;
      case Op::name: return lookup(n.text);
      case Op::tuple:
      case Op::list: return sequence(n.op == Op::tuple ? Kind::tuple : Kind::list, eval_all(n));
      case Op::dict: return eval_dict(n);
      case Op::attribute: return attribute(eval(*n.kids[0]), n.text);
      case Op::item: return eval_item(n);
      case Op::call: {
        const Value callee = eval(*n.kids[0]);
        return call(callee, arguments(n));
      }
      case Op::filter: {
        const Value v = eval(*n.kids[0]);
        return filtered(n.text, v, arguments(n));
      }
      case Op::test: {
        const Value v = eval(*n.kids[0]);
        return boolean(tested(n.text, v, arguments(n)));
      }
      case Op::negate:
      case Op::plus: {
        const Value v = eval(*n.kids[0]);
        need_defined(v);
        if (!is_number(v)) throw Fault{"a sign needs a number, not " + type_name(v)};
        if (v.kind == Kind::real) return number(n.op == Op::negate ? -v.real : v.real);
        return n.op == Op::negate ? arithmetic("-", number(int64_t{0}), v) : number(v.integer);
      }
      case Op::invert: return boolean(!truth(eval(*n.kids[0])));
      case Op::both: {
        Value left = eval(*n.kids[0]);
        return truth(left) ? eval(*n.kids[1]) : left;
      }
      case Op::either: {
        Value left = eval(*n.kids[0]);
        return truth(left) ? left : eval(*n.kids[1]);
      }
      case Op::binary: {
        const Value left = eval(*n.kids[0]), right = eval(*n.kids[1]);
        return binary(n.text, left, right);
      }
      case Op::concat: return joined(eval_all(n), text(std::string()));
      case Op::compare: return eval_compare(n);
      case Op::condition:
        if (truth(eval(*n.kids[0]))) return eval(*n.kids[1]);
        return n.kids[2] ? eval(*n.kids[2]) : undefined("an inline if without else was false");
      default: throw Fault{"a slice cannot stand here"};
    }
  }

  std::vector<Value> eval_all(const Node& n) {
    std::vector<Value> values;
    for (const NodePtr& kid : n.kids) values.push_back(eval(*kid));
    return values;
  }

  Value eval_dict(const Node& n) {
    std::vector<Value> pairs;
    for (size_t i = 0; i < n.kids.size(); i += 2) {
      const Value key = eval(*n.kids[i]);
      put(pairs, key, eval(*n.kids[i + 1]));
    }
    return sequence(Kind::dict, std::move(pairs));
  }

  Value eval_item(const Node& n) {
    const Value v = eval(*n.kids[0]);
    if (n.kids[1]->op != Op::slice) return item(v, eval(*n.kids[1]));
    Value parts[3];
    for (size_t i = 0; i < 3; ++i)
      parts[i] = n.kids[1]->kids[i] ? eval(*n.kids[1]->kids[i]) : kNone;
    return slice(v, parts);
  }

  Value eval_compare(const Node& n) {
    Value left = eval(*n.kids[0]);
    for (const auto& [op, kid] : n.named) {
      Value right = eval(*kid);
      if (!compared(op, left, right)) return boolean(false);
      left = std::move(right);
    }
    return boolean(true);
  }

  static Fault no_namespace() {
    return {"an attribute can be set on a namespace only", "{% set ns = namespace() %}"};
  }

  void assign(const Node& target, const Value& value) {
    if (target.op == Op::name) {
      scope_->names[target.text] = value;
    } else if (target.op == Op::member) {
      check_member(target.text);
      const Value space = eval(*target.kids[0]);
      if (space.kind != Kind::space) throw no_namespace();
      put(space.object->items, with_text(Kind::string, target.text), value);
    } else {
      const std::vector<Value> parts = all(value);
      if (parts.size() != target.kids.size())
        throw Fault{std::to_string(parts.size()) + " values cannot be given to " +
                    std::to_string(target.kids.size()) + " names"};
      for (size_t i = 0; i < parts.size(); ++i) assign(*target.kids[i], parts[i]);
    }
  }

  // What a filtered loop goes on with: Jinja puts the parts of an item together again, as tuples.
  Value assigned(const Node& target) {
    if (target.op == Op::name) return lookup(target.text);
    std::vector<Value> parts;
    for (const NodePtr& kid : target.kids) parts.push_back(assigned(*kid));
    return sequence(Kind::tuple, std::move(parts));
  }

  void need_spaces(const Node& target) {
    for (const NodePtr& kid : target.kids) {
      if (target.op == Op::member && eval(*kid).kind != Kind::space) throw no_namespace();
      if (target.op == Op::tuple) need_spaces(*kid);
    }
  }

  void hide(const std::vector<std::string>& names) {
    for (const std::string& name : names)
      scope_->names[name] = undefined("'" + name + "' is undefined");
  }

  Flow execute(const Body& body, std::string& out) {
    for (const NodePtr& n : body)
      if (const Flow flow = execute(*n, out); flow != Flow::on) return flow;
    return Flow::on;
  }

  Flow execute_inside(const Body& body, const std::vector<std::string>& hidden, std::string& out) {
    Scope scope{scope_};
    const Restored<Scope*> inside(scope_, &scope);
    hide(hidden);
    return execute(body, out);
  }

  // A case for each kind of statement.
  Flow execute(const Node& n, std::string& out) {
    const Restored<int> level(depth_, deeper());
    charge(1);
    line_ = n.line;
    switch (n.op) {
      case Op::data: grow(out, n.text); return Flow::on;
      case Op::output: grow(out, written(eval(*n.kids[0]))); return Flow::on;
      case Op::leave: return Flow::leave;
      case Op::proceed: return Flow::proceed;
      case Op::branch:
        for (size_t i = 0; i < n.bodies.size(); ++i)
          if (i == n.kids.size() || truth(eval(*n.kids[i]))) return execute(n.bodies[i], out);
        return Flow::on;
      case Op::loop: return execute_loop(n, out);
      case Op::set:
        need_spaces(*n.kids[0]);
        if (n.kids[0]->op == Op::member) check_member(n.kids[0]->text);
        assign(*n.kids[0], eval(*n.kids[1]));
        return Flow::on;
      case Op::macro: {
        Value macro = with_text(Kind::macro, n.text);
        macro.object->macro = &n;
        scope_->names[n.text] = macro;
        return Flow::on;
      }
      case Op::with: {
        std::vector<Value> values;
        for (size_t i = 1; i < n.kids.size(); i += 2) values.push_back(eval(*n.kids[i]));
        Scope scope{scope_};
        const Restored<Scope*> inside(scope_, &scope);
        for (size_t i = 0; i < values.size(); ++i) assign(*n.kids[2 * i], values[i]);
        hide(n.hidden);
        return execute(n.bodies[0], out);
      }
      case Op::set_block:
      case Op::filter_block: {
        std::string inner;
        Scope scope{scope_};
        const Restored<Scope*> inside(scope_, &scope);
        hide(n.hidden);
        if (const Flow flow = execute(n.bodies[0], inner); flow != Flow::on) return flow;
        const Node* filter = n.kids.back().get();
        Value value = captured(std::move(inner));
        if (filter) value = apply(*filter, std::move(value));
        scope_ = scope.parent;
        if (n.op == Op::set_block) assign(*n.kids[0], filter ? captured(str(value)) : value);
        else grow(out, str(value));
        return Flow::on;
      }
      default: {  // Op::generation
        const size_t begin = out.size();
        if (&out != main_out_) {
          if (generated_)
            throw Fault{"{% generation %} inside a macro or a block is not supported"};
        } else if (generated_) {
          generated_->push_back({begin, begin, message_here()});
        }
        const size_t index = generated_ ? generated_->size() - 1 : 0;
        execute_inside(n.bodies[0], n.hidden, out);
        if (generated_) (*generated_)[index].end = out.size();
        return Flow::on;
      }
    }
  }

  // Which of `messages` a variable is, of the innermost scope that holds one; nothing where it
  // holds several.
  std::optional<size_t> message_here() const {
    const auto all = global_.names.find("messages");
    if (all == global_.names.end() || all->second.kind != Kind::list) return std::nullopt;
    const auto& messages = all->second.object->items;
    for (const Scope* scope = scope_; scope; scope = scope->parent) {
      std::optional<size_t> found;
      for (const auto& [name, value] : scope->names)
        for (size_t i = 0; i < messages.size(); ++i) {
          if (!same(value, messages[i])) continue;
          if (found && *found != i) return std::nullopt;
          found = i;
        }
      if (found) return found;
    }
    return std::nullopt;
  }

  Value apply(const Node& filter, Value value) {  // a chain of filters on a block's text
    if (filter.kids[0]) value = apply(*filter.kids[0], std::move(value));
    return filtered(filter.text, value, arguments(filter));
  }

  Flow execute_loop(const Node& n, std::string& out) {
    const Iterator source = iterate(eval(*n.kids[1]));
    charge(30);
    loops_.emplace_back();
    Loop& loop = loops_.back();
    struct End {
      Loop& loop;
      ~End() {
        loop = {.pull = {}, .ahead = {}, .before = {}, .current = {}, .index0 = -1, .over = true};
      }
    } const end{loop};
    const Node* const test = n.kids[2].get();
    Scope* const outer = scope_;
    loop.pull = [this, &n, &source, test, outer](Value& item) {
      while (source(item)) {
        if (!test) return true;
        Scope scope{outer};
        const Restored<Scope*> inside(scope_, &scope);
        assign(*n.kids[0], item);
        if (!truth(eval(*test))) continue;
        item = assigned(*n.kids[0]);
        return true;
      }
      return false;
    };
    Value handle = with_text(Kind::loop, "");
    handle.object->loop = &loop;
    bool completed = false;
    while (loop.next()) {
      charge(1);
      Scope scope{outer};
      const Restored<Scope*> inside(scope_, &scope);
      scope.names["loop"] = handle;
      assign(*n.kids[0], loop.current);
      hide(n.hidden);
      const Flow flow = execute(n.bodies[0], out);
      if (flow == Flow::leave) break;
      completed |= flow == Flow::on;
    }
    // Jinja runs the else part where no round came to its end, so also where each was left by break
    // or continue.
    return !completed && n.bodies.size() > 1 ? execute_inside(n.bodies[1], {}, out) : Flow::on;
  }

  std::vector<Generated>* generated_;
  const std::string* main_out_ = nullptr;
  std::string date_ = "2024-07-26";

  // Owned here, since namespaces may hold each other in circles and values may outlive their loop.
  std::deque<Object> spaces_;
  std::deque<Loop> loops_;
  Scope global_;
  Scope* scope_ = &global_;
  int line_ = 1;
};

}  // namespace
}  // namespace jinja

Template::Template(const std::string& source, const std::string& name, TemplateOptions options)
    : program_(std::make_shared<const jinja::Program>(jinja::parse(source, name))),
      options_(options) {}

std::string Template::render(const Json& context, std::vector<Generated>* generated) const {
  int line = 0;
  try {
    jinja::Renderer renderer(context, options_, generated);
    try {
      return renderer.run(program_->body, program_->hidden);
    } catch (const jinja::Fault&) {
      line = renderer.line();
      throw;
    }
  } catch (const jinja::Fault& fault) {
    throw Error(fault.what, {.file = program_->name, .line = line}, fault.hint);
  }
}

bool Template::marks_generation() const { return program_->marks_generation; }
bool Template::names(const std::string& word) const { return program_->words.contains(word); }

}  // namespace inoculum
