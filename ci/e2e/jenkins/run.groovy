// Runs a declarative Jenkinsfile without a Jenkins: Groovy's own compiler reads it, and `sh` is executed. It knows the words that ours uses, each only
// where Jenkins allows it; any other one is an error, as a misspelt one is there. It is no Jenkins: plugins only look for their files here.
//
//   java -cp groovy-all.jar groovy.ui.GroovyMain run.groovy JENKINSFILE REPOSITORY WORK CREDENTIALS [TAG]
//
// CREDENTIALS is a file of ID=VALUE lines (USER:PASSWORD for those with both, \n for the end of a line); with TAG, that is what is built. WORK gets workspace, tmp and
// archive. It ends with 0 for SUCCESS, 1 for FAILURE and 2 for a Jenkinsfile that is not valid.
class Invalid extends RuntimeException { Invalid(String m) { super(m) } }
class Failure extends RuntimeException { Failure(String m) { super(m) } }
class Credential { String id }

// Words are what may stand in a block: its calls, its variables, and what happens to NAME = VALUE.
class Words {
  Map calls; Map env; Closure assign
  def methodMissing(String name, args) {
    if (!calls.containsKey(name)) throw new Invalid("`$name` may not stand here: one of ${calls.keySet().join(', ')} may")
    calls[name](*args)
  }
  def propertyMissing(String name) {
    if (name in ['any', 'none']) return name
    if (!env.containsKey(name)) throw new Invalid("no variable `$name`")
    env[name]
  }
  def propertyMissing(String name, value) {
    if (!assign) throw new Invalid("`$name = ...` may not stand here")
    assign(name, value)
  }
}

class Job {
  File repository, workspace, tmp, archive
  Map env, credentials
  boolean failed
  File dir

  def block(Closure body, Map calls, Closure assign = null) {
    Closure c = (Closure) body.clone()
    c.delegate = new Words(calls: calls, env: env, assign: assign)
    c.resolveStrategy = Closure.DELEGATE_ONLY
    c()
  }

  void run(List command, File where) {
    def p = new ProcessBuilder(command*.toString()).directory(where).redirectErrorStream(true).redirectInput(new File('/dev/null'))
    p.environment().putAll(env.collectEntries { k, v -> [k, v.toString()] })
    def started = p.start()
    started.inputStream.eachLine { println it }
    if (started.waitFor() != 0) throw new Failure("script returned exit code ${started.exitValue()}")
  }

  void environment(Closure c) {
    block(c, [credentials: { String id -> new Credential(id: id) }]) { String name, value ->
      if (!(value instanceof Credential)) { env[name] = value.toString(); return }
      def secret = credentials[value.id]
      if (secret == null) throw new Failure("could not find credentials entry with ID '$value.id'")
      env[name] = secret
      def parts = secret.split(':', 2)
      if (parts.size() == 2) { env[name + '_USR'] = parts[0]; env[name + '_PSW'] = parts[1] }
    }
  }

  boolean when(Closure c) {
    def holds = []
    block(c, [buildingTag: { -> holds << env.containsKey('TAG_NAME') }, not: { Closure d -> holds << !when(d) }])
    holds.every()
  }

  Map steps() {
    [sh: { String script -> run(['/bin/sh', '-xec', script], dir) },
     deleteDir: { -> dir.deleteDir(); dir.mkdirs() },
     dir: { String path, Closure c -> def old = dir; dir = new File(path); dir.mkdirs(); try { block(c, steps()) } finally { dir = old } },
     sarif: { Map m -> m.pattern },
     junit: { Map m -> println "junit: ${files(m.testResults).collect { new XmlParser().parse(it).depthFirst().count { it.name() == 'testcase' } }.sum() ?: 0} tests" },
     recordIssues: { Map m -> files(m.tool).each { new groovy.json.JsonSlurper().parse(it) } },
     archiveArtifacts: { Map m -> files(m.artifacts).each { f ->
       def to = new File(archive, workspace.toPath().relativize(f.toPath()).toString()); to.parentFile.mkdirs(); to.bytes = f.bytes } }]
  }

  List files(String patterns) {
    def wanted = patterns.split(',').collect { java.nio.file.FileSystems.default.getPathMatcher('glob:' + it.trim()) }, found = []
    workspace.eachFileRecurse(groovy.io.FileType.FILES) { f -> if (wanted.any { it.matches(workspace.toPath().relativize(f.toPath())) }) found << f }
    found
  }

  void stage(String name, Closure c) {
    def before = new LinkedHashMap(env)
    def skipped = failed
    try {
      block(c, [when: { Closure d -> skipped = skipped || !when(d) }, environment: { Closure d -> if (!skipped) environment(d) },
                steps: { Closure d -> if (!skipped) { println "[stage: $name]"; block(d, steps()) } }])
    } catch (Failure e) {
      println "ERROR: $e.message"
      failed = true
    } finally { env = before }
  }

  void pipeline(Closure c) {
    run(['git', 'clone', '--quiet', '--no-hardlinks', repository, workspace], tmp)
    dir = workspace
    def post = []
    block(c, [agent: { where -> }, environment: { Closure d -> environment(d) },
              options: { Closure d -> block(d, [disableConcurrentBuilds: { -> }, timeout: { Map m -> if (!(m.unit in ['MINUTES', 'HOURS'])) throw new Invalid("unit: $m.unit") }]) },
              stages: { Closure d -> block(d, [stage: { String name, Closure e -> stage(name, e) }]) },
              post: { Closure d -> post << d }])
    post.each { block(it, [always: { Closure d -> try { block(d, steps()) } catch (Failure e) { println "ERROR: $e.message"; failed = true } }]) }
  }
}

def (file, repository, work, secrets) = args.take(4).collect { new File(it).absoluteFile }
def job = new Job(repository: repository, workspace: new File(work, 'workspace'), tmp: new File(work, 'tmp'), archive: new File(work, 'archive'),
  credentials: secrets.readLines().collectEntries { it.replace('\\n', '\n').split('=', 2) as List })
job.tmp.mkdirs()
job.env = [WORKSPACE: job.workspace.path, WORKSPACE_TMP: job.tmp.path, BUILD_NUMBER: '1', CI: 'true']
if (args.size() > 4) job.env.TAG_NAME = args[4]
try {
  new GroovyShell(new Binding(pipeline: job.&pipeline)).evaluate(file)
} catch (Invalid | MissingMethodException | org.codehaus.groovy.control.CompilationFailedException e) {
  System.err.println "$file.name: $e.message"
  System.exit(2)
}
println "Finished: ${job.failed ? 'FAILURE' : 'SUCCESS'}"
System.exit(job.failed ? 1 : 0)
